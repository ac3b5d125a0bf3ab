"""Secrets at rest: the database alone does not give them away, and keys can be changed."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet

from tasks_app.push.sealing import Unopenable, reseal, seal, unseal

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def test_what_is_sealed_does_not_show_and_opens_again(settings: Any) -> None:
    settings.A2A_SECRET_KEYS = [OLD]
    assert b"hush" not in seal(b"hush")
    assert seal(b"hush") != seal(b"hush")
    assert unseal(seal(b"hush")) == b"hush"


def test_a_new_key_seals_and_the_old_one_still_opens(settings: Any) -> None:
    settings.A2A_SECRET_KEYS = [OLD]
    before = seal(b"hush")
    settings.A2A_SECRET_KEYS = [NEW, OLD]
    assert unseal(before) == b"hush"
    after = reseal(before)
    settings.A2A_SECRET_KEYS = [NEW]
    assert unseal(after) == b"hush"
    with pytest.raises(Unopenable, match="A2A_SECRET_KEYS"):
        unseal(before)


def test_without_keys_the_secret_key_seals_and_goes_on_opening_once_there_are_some(settings: Any) -> None:
    settings.A2A_SECRET_KEYS = []
    before = seal(b"hush")
    settings.A2A_SECRET_KEYS = [NEW]
    assert unseal(before) == b"hush"
    settings.SECRET_KEY = "another"
    with pytest.raises(Unopenable):
        unseal(before)


def test_what_was_damaged_is_not_opened() -> None:
    with pytest.raises(Unopenable):
        unseal(seal(b"hush")[:-4])
