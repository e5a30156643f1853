"""How each SDK is pointed at this server: the snippets of the start page.

An address and a token enter; text to paste leaves. What stands here stands in README.md or docs/sdks.md word
for word, with the addresses and the token of an example, and a test compares them: there is one truth.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec

TOKEN: Final = "YOUR_TOKEN"
PLAIN: Final = "http://127.0.0.1:6493"
SECURE: Final = "https://mixdown.example.com"
_PLAIN_TOKEN: Final = re.compile(r"[A-Za-z0-9_.\-]{1,200}", re.ASCII)


class Snippet(msgspec.Struct, frozen=True):
    """One SDK: how it is installed, what to paste, and what else to know; `code` as the docs have it."""

    name: str
    label: str
    install: str
    code: str
    hint: str = ""
    plain_http: str = ""
    """What to know where the server has no TLS."""


_CURL: Final = """\
curl 'http://127.0.0.1:6493/engage?verbose=1' \\
  -H 'Content-Type: application/json' -d '[{
  "$token": "YOUR_TOKEN",
  "$distinct_id": "ada",
  "$set": {"$name": "Ada Lovelace", "plan": "pro"}
}]'"""
_BROWSER: Final = """\
import mixpanel from "mixpanel-browser";

mixpanel.init("YOUR_TOKEN", { api_host: "http://127.0.0.1:6493" });
mixpanel.identify("ada");
mixpanel.track("Signed in", { plan: "pro" });
mixpanel.people.set({ plan: "pro" });"""
_NODE: Final = """\
const Mixpanel = require("mixpanel");

const mixpanel = Mixpanel.init("YOUR_TOKEN", { host: "127.0.0.1", port: 6493, protocol: "http" });
mixpanel.track("Signed in", { distinct_id: "ada", plan: "pro" });
mixpanel.people.set("ada", { plan: "pro" });
mixpanel.groups.set("Company", "Acme", { seats: 12 });"""
_PYTHON: Final = """\
from mixpanel import Consumer, Mixpanel

server = "http://127.0.0.1:6493"
consumer = Consumer(
    events_url=server + "/track", people_url=server + "/engage",
    groups_url=server + "/groups", import_url=server + "/import",
)
mp = Mixpanel("YOUR_TOKEN", consumer=consumer)
mp.track("ada", "Signed in", {"plan": "pro"})
mp.people_set("ada", {"plan": "pro"})
mp.group_set("Company", "Acme", {"seats": 12})"""
_RUBY: Final = """\
require "mixpanel-ruby"

server = "https://mixdown.example.com"
consumer = Mixpanel::Consumer.new(
  "#{server}/track", "#{server}/engage", "#{server}/groups", "#{server}/import"
)
mp = Mixpanel::Tracker.new("YOUR_TOKEN") { |type, message| consumer.send!(type, message) }
mp.track("ada", "Signed in", { "plan" => "pro" })
mp.people.set("ada", { "plan" => "pro" })
mp.groups.set("Company", "Acme", { "seats" => 12 })"""
_PHP: Final = """\
require 'vendor/autoload.php';

$mp = Mixpanel::getInstance('YOUR_TOKEN', [
    'host' => '127.0.0.1:6493',
    'use_ssl' => false,
]);
$mp->track('Signed in', ['distinct_id' => 'ada', 'plan' => 'pro']);
$mp->people->set('ada', ['plan' => 'pro']);
$mp->group->set('Company', 'Acme', ['seats' => 12]);"""
_JAVA: Final = """\
String server = "http://127.0.0.1:6493";
MixpanelAPI mixpanel = new MixpanelAPI(server + "/track", server + "/engage", server + "/groups");
MessageBuilder messages = new MessageBuilder("YOUR_TOKEN");

ClientDelivery delivery = new ClientDelivery();
delivery.addMessage(messages.event("ada", "Signed in", new JSONObject().put("plan", "pro")));
delivery.addMessage(messages.set("ada", new JSONObject().put("plan", "pro")));
delivery.addMessage(messages.groupSet("Company", "Acme", new JSONObject().put("seats", 12)));
mixpanel.deliver(delivery);"""
_GO: Final = """\
mp := mixpanel.NewApiClient("YOUR_TOKEN", mixpanel.ProxyApiLocation("http://127.0.0.1:6493"))
signedIn := mp.NewEvent("Signed in", "ada", map[string]any{"plan": "pro"})
err := mp.Track(ctx, []*mixpanel.Event{signedIn})
ada := mixpanel.NewPeopleProperties("ada", map[string]any{"plan": "pro"})
err = mp.PeopleSet(ctx, []*mixpanel.PeopleProperties{ada})"""
_SWIFT: Final = """\
import Mixpanel

let mixpanel = Mixpanel.initialize(
    options: MixpanelOptions(token: "YOUR_TOKEN", serverURL: "https://mixdown.example.com"))
mixpanel.identify(distinctId: "ada")
mixpanel.track(event: "Signed in", properties: ["plan": "pro"])
mixpanel.people.set(properties: ["plan": "pro"])
mixpanel.flush()"""
_ANDROID: Final = """\
val mixpanel = MixpanelAPI.getInstance(context, "YOUR_TOKEN", false)
mixpanel.setServerURL("https://mixdown.example.com")
mixpanel.identify("ada")
mixpanel.track("Signed in")
mixpanel.people.set("plan", "pro")
mixpanel.flush()"""
_FLUTTER: Final = """\
import 'package:mixpanel_flutter/mixpanel_flutter.dart';

final mixpanel = await Mixpanel.init("YOUR_TOKEN", trackAutomaticEvents: false);
mixpanel.setServerURL("https://mixdown.example.com");
mixpanel.identify("ada");
mixpanel.track("Signed in", properties: {"plan": "pro"});
mixpanel.getPeople().set("plan", "pro");
mixpanel.flush();"""
_REACT_NATIVE: Final = """\
import { Mixpanel } from "mixpanel-react-native";

const mixpanel = new Mixpanel("YOUR_TOKEN", false);
await mixpanel.init(false, {}, "https://mixdown.example.com");
await mixpanel.identify("ada");
mixpanel.track("Signed in", { plan: "pro" });
mixpanel.getPeople().set("plan", "pro");
mixpanel.flush();"""
_ON_PHONES: Final = (
    "This server has no TLS, and a phone asks for it: docs/sdks.md says how an app is allowed plain http, "
    "docs/tls.md how the server gets a certificate."
)

SNIPPETS: Final = (
    Snippet("curl", "curl", "", _CURL, "Paste it into a terminal: there is nothing to install."),
    Snippet(
        "browser",
        "Browser",
        "npm install mixpanel-browser",
        _BROWSER,
        "The page may come from any origin. identify also sends an event.",
    ),
    Snippet("node", "Node.js", "npm install mixpanel", _NODE),
    Snippet("python", "Python", "pip install mixpanel", _PYTHON),
    Snippet(
        "ruby",
        "Ruby",
        "gem install mixpanel-ruby",
        _RUBY,
        plain_http="The SDK switches TLS on for http as well: first say "
        "Mixpanel.config_http { |http| http.use_ssl = false }.",
    ),
    Snippet("php", "PHP", "composer require mixpanel/mixpanel-php", _PHP),
    Snippet("java", "Java", "com.mixpanel:mixpanel-java", _JAVA),
    Snippet("go", "Go", "go get github.com/mixpanel/mixpanel-go/v2", _GO),
    Snippet("swift", "Swift", "mixpanel-swift, with MixpanelOptions", _SWIFT, plain_http=_ON_PHONES),
    Snippet(
        "android",
        "Android",
        "com.mixpanel.android:mixpanel-android, from 7.4",
        _ANDROID,
        "An emulator reaches the machine it runs on as 10.0.2.2.",
        plain_http=_ON_PHONES,
    ),
    Snippet("flutter", "Flutter", "flutter pub add mixpanel_flutter", _FLUTTER, plain_http=_ON_PHONES),
    Snippet(
        "react-native",
        "React Native",
        "npm install mixpanel-react-native",
        _REACT_NATIVE,
        plain_http=_ON_PHONES,
    ),
)


def chosen(name: str) -> Snippet:
    """The snippet of this name, or the first."""
    return next((snippet for snippet in SNIPPETS if snippet.name == name), SNIPPETS[0])


def code_for(snippet: Snippet, address: str, token: str) -> str:
    """What to paste for a server at `address` (`http://host:port`) and a token.

    A token that would not stand in the quotes of every language stays `YOUR_TOKEN`: it is shown beside.
    """
    code = snippet.code
    adapt = _OWN.get(snippet.name)
    if adapt is not None:
        code = adapt(code, address)
    code = code.replace(PLAIN, address).replace(SECURE, address)
    return code.replace(TOKEN, token) if _PLAIN_TOKEN.fullmatch(token) else code


def is_shown_with(token: str) -> bool:
    """Whether a token stands in the snippets."""
    return token == TOKEN or _PLAIN_TOKEN.fullmatch(token) is not None


def _node(code: str, address: str) -> str:
    at = urlsplit(address)
    port = at.port or (443 if at.scheme == "https" else 80)
    options = f'host: "{at.hostname}", port: {port}, protocol: "{at.scheme}"'
    return code.replace('host: "127.0.0.1", port: 6493, protocol: "http"', options)


def _php(code: str, address: str) -> str:
    at = urlsplit(address)
    code = code.replace("'127.0.0.1:6493'", f"'{at.netloc}'")
    return code.replace("'use_ssl' => false", f"'use_ssl' => {'true' if at.scheme == 'https' else 'false'}")


_OWN: Final[dict[str, Callable[[str, str], str]]] = {"node": _node, "php": _php}
