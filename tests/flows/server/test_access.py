import pytest

from features.errors import InputError
from flows.server.access import access_settings, auth_string

SERVER, CLIENTS = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"
ORIGINS = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch):
    for name in (SERVER, CLIENTS, ORIGINS):
        monkeypatch.delenv(name, raising=False)


def test_a_password_is_made_once_and_kept_where_only_its_owner_can_read_it(tmp_path):
    file = tmp_path / "auth_string"

    made = auth_string(file)

    user, password = made.split(":")
    assert user == "vaflow"
    assert len(password) >= 32
    assert auth_string(file) == made
    assert auth_string(tmp_path / "another") != made
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", [SERVER, CLIENTS])
def test_a_password_of_the_environment_is_that_of_both_sides(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "ann:secret")

    auth = auth_string(tmp_path / "auth_string")

    settings = access_settings("http://127.0.0.1:4300", auth)
    assert settings[SERVER] == settings[CLIENTS] == "ann:secret"
    assert not (tmp_path / "auth_string").exists()


def test_passwords_that_differ_or_have_no_user_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(SERVER, "ann:secret")
    monkeypatch.setenv(CLIENTS, "ann:other")
    with pytest.raises(InputError, match="differ: give both the same USER:PASSWORD"):
        auth_string(tmp_path / "auth_string")
    monkeypatch.delenv(CLIENTS)
    monkeypatch.setenv(SERVER, "secret")
    with pytest.raises(InputError, match=f"{SERVER} must be USER:PASSWORD"):
        auth_string(tmp_path / "auth_string")


def test_only_pages_of_the_server_may_send_requests_unless_the_user_allows_others(monkeypatch):
    own = "http://127.0.0.1:4300,http://localhost:4300"
    assert access_settings("http://127.0.0.1:4300", "a:b")[ORIGINS] == own
    monkeypatch.setenv(ORIGINS, "https://prefect.example.org")
    settings = access_settings("http://127.0.0.1:4300", "a:b")
    assert settings[ORIGINS] == "https://prefect.example.org"
