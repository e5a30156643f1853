"""Properties that Mixpanel's SDKs and servers set themselves, by the names that people use for them.

A property's name enters; its label leaves, and the order in which known ones are shown.
"""

from __future__ import annotations

from typing import Final

LABELS: Final = {
    "$name": "Name",
    "$first_name": "First name",
    "$last_name": "Last name",
    "$email": "E-mail",
    "$phone": "Phone",
    "$avatar": "Avatar",
    "$created": "Created",
    "$last_seen": "Last seen",
    "$city": "City",
    "$region": "Region",
    "$country_code": "Country",
    "$timezone": "Time zone",
    "$latitude": "Latitude",
    "$longitude": "Longitude",
    "$unsubscribed": "Unsubscribed from e-mail",
    "$transactions": "Transactions",
    "$browser": "Browser",
    "$browser_version": "Browser version",
    "$os": "Operating system",
    "$os_version": "Operating system version",
    "$device": "Device",
    "$model": "Device model",
    "$manufacturer": "Device manufacturer",
    "$screen_width": "Screen width",
    "$screen_height": "Screen height",
    "$referrer": "Referrer",
    "$referring_domain": "Referring domain",
    "$initial_referrer": "First referrer",
    "$initial_referring_domain": "First referring domain",
    "$search_engine": "Search engine",
    "$ios_devices": "iOS push tokens",
    "$ios_app_version": "iOS app version",
    "$ios_app_release": "iOS app release",
    "$ios_device_model": "iOS device",
    "$ios_version": "iOS version",
    "$ios_lib_version": "iOS SDK version",
    "$ios_ifa": "iOS advertising id",
    "$android_devices": "Android push tokens",
    "$android_app_version": "Android app version",
    "$android_app_version_code": "Android app version code",
    "$android_brand": "Android brand",
    "$android_manufacturer": "Android manufacturer",
    "$android_model": "Android device",
    "$android_os": "Android OS",
    "$android_os_version": "Android version",
    "$android_lib_version": "Android SDK version",
    "$swift_lib_version": "Swift SDK version",
    "$app_version": "App version",
    "$app_version_string": "App version",
    "$app_build_number": "App build",
    "$app_release": "App release",
    "$lib_version": "SDK version",
    "$carrier": "Carrier",
    "$campaigns": "Campaigns",
    "$geo_source": "Source of location",
    "utm_source": "UTM source",
    "utm_medium": "UTM medium",
    "utm_campaign": "UTM campaign",
    "utm_content": "UTM content",
    "utm_term": "UTM term",
    "initial_utm_source": "First UTM source",
    "initial_utm_medium": "First UTM medium",
    "initial_utm_campaign": "First UTM campaign",
    "initial_utm_content": "First UTM content",
    "initial_utm_term": "First UTM term",
}
_ORDER: Final = {name: place for place, name in enumerate(LABELS) if name.startswith("$")}


def label_of(name: str) -> str:
    """What people call a property: `$email` is E-mail; names of one's own are what they are."""
    return LABELS.get(name, name)


def order_of(name: str) -> tuple[int, int, str, str]:
    """The place of a property among others: known reserved ones, other reserved ones, one's own by name."""
    place = _ORDER.get(name)
    if place is not None:
        return 0, place, "", name
    return (1 if name.startswith("$") else 2), 0, name.casefold(), name


def display_name(properties: dict[str, object]) -> str:
    """What a profile is called by a person: its name, or its e-mail address; "" where it has neither."""

    def text(name: str) -> str:
        value = properties.get(name)
        return value.strip() if type(value) is str else ""

    whole = f"{text('$first_name')} {text('$last_name')}".strip()
    return text("$name") or text("name") or whole or text("$email")
