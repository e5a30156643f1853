"""Settings: declared once, read from flags and variables, refused with words that help."""

import subprocess
import sys
from pathlib import Path

import pytest

from mixdown.model.errors import SettingsError
from mixdown.settings import SETTINGS, Setting, Settings, as_env, load, unknown_variables

ROOT = Path(__file__).parent.parent.parent


def test_without_anything_the_defaults_are_in_force() -> None:
    assert load({}, {}) == Settings()
    assert (Settings().host, Settings().port, str(Settings().data_dir)) == ("127.0.0.1", 6493, "mixdown-data")


def test_a_flag_wins_over_its_variable_and_an_empty_variable_counts_as_not_set() -> None:
    settings = load(
        {"MIXDOWN_PORT": "1", "MIXDOWN_WORKERS": "", "MIXDOWN_HOST": "::1"}, {"port": 2, "host": None}
    )
    assert (settings.port, settings.workers, settings.host) == (2, 1, "::1")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_has_help_a_variable_and_a_default_that_is_allowed(setting: Setting) -> None:
    assert setting.help.endswith(".")
    assert setting.env == f"MIXDOWN_{setting.name.upper()}"
    switch = "--no-" if setting.default is True else "--"
    assert setting.flag == ("" if setting.secret else switch + setting.name.replace("_", "-"))
    assert isinstance(setting.default, setting.type)
    if setting.type is int:
        assert setting.low <= int(str(setting.default)) <= setting.high
    if setting.choices:
        assert setting.default in setting.choices


def test_settings_survive_the_way_to_a_child_process() -> None:
    given = {
        "port": "0",
        "data_dir": "/var/lib/mix down",
        "ephemeral": "yes",
        "account": "ada:p:a=s s",
        "trusted_proxies": "10.0.0.0/8, ::1",
        "backlog_limit_records": "1_000",
        "log_format": "json",
    }
    settings = load({}, given)
    assert (settings.ephemeral, settings.backlog_limit_records) == (True, 1000)
    assert settings.account_parts() == ("ada", "p:a=s s")
    assert [str(network) for network in settings.trusted_networks()] == ["10.0.0.0/8", "::1/128"]
    assert load(as_env(settings), {}) == settings


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("port", "x", "--port is 'x': a whole number from 0 to 65535 is allowed"),
        ("port", "65536", "--port is 65536: a whole number from 0 to 65535 is allowed"),
        ("port", "-1", "--port is -1: a whole number"),
        ("port", "1.5", "--port is '1.5': a whole number"),
        ("workers", "0", "--workers is 0: a whole number from 1 to 64 is allowed"),
        ("header_limit_bytes", "10", "--header-limit-bytes is 10: a whole number from 1024"),
        ("log_level", "loud", "--log-level is 'loud': debug, info, warning or error is allowed"),
        ("unknown_token", "drop", "--unknown-token is 'drop': refuse or accept is allowed"),
        ("ephemeral", "maybe", "--ephemeral is 'maybe': yes or no"),
        ("tls_cert", "cert.pem", "tls_cert is set without tls_key"),
        ("tls_key", "key.pem", "tls_key is set without tls_cert"),
        ("trusted_proxies", "10.0.0.0/8,proxy", "trusted_proxies holds 'proxy'"),
        ("internal_port", "6493", "port and internal_port are both 6493"),
        ("account", "ada", "account is not of the form user:password"),
        ("account", "ada:", "account is not of the form user:password"),
        ("fold_workers", "2", "fold_workers is set without database_url"),
        ("events_url", "/mnt/events", "events_url is set without database_url"),
        ("host", "a\nb", "--host holds a line break"),
        ("data_dir", "", "--data-dir is empty"),
        ("data_dir", " ", "--data-dir is empty"),
        ("colour", "blue", "there is no setting 'colour'"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_is_allowed(name: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({}, {name: value})
    assert words in str(caught.value)


def test_a_variable_is_named_as_the_user_wrote_it() -> None:
    with pytest.raises(SettingsError, match="MIXDOWN_PORT is 'tcp://") as caught:
        load({"MIXDOWN_PORT": "tcp://10.0.0.1:6493"}, {})
    assert "enableServiceLinks" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "value"), [("account", "only-a-password"), ("secret", "a\0b"), ("token", "a\nb")]
)
def test_an_error_never_quotes_a_secret(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({}, {name: value})
    assert value not in str(caught.value)
    assert "a" + value[1:] not in repr(caught.value)


def test_misspelled_variables_are_found() -> None:
    assert unknown_variables({"MIXDOWN_PROT": "1", "MIXDOWN_PORT": "1", "PATH": ""}) == ["MIXDOWN_PROT"]


def test_the_configuration_page_is_what_the_settings_say() -> None:
    script = ROOT / "scripts" / "configuration_page.py"
    checked = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
