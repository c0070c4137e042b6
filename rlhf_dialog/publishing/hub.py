"""Talking to the Hub: every failure one sentence, every call tried again, every push resumable.

What was begun is written down in the run's folder, `published.json`, so that the same command again
goes on where the last one stopped: repositories of its own are written to, unchanged files and
chunks that arrived are not sent twice (`HfApi.upload_folder`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.pages import write_atomically
from rlhf_dialog.publishing.plan import Repository

RECORD = "published.json"
# Noted once the Hub has said that there is none of that name. "asked for", of earlier versions,
# was noted before anybody looked, so it makes nothing this run's own.
FREE, UNCLEAR = "free, asked for", "asked for"
ATTEMPTS = 4
FIRST_WAIT = 1.0  # seconds; doubles from one attempt to the next
T = TypeVar("T")


class Hub:
    """The Hub, for one run's folder.

    Raises:
        UserError: (on creation) no token, one that is not accepted, no network.
    """

    def __init__(self, run: Path) -> None:
        if constants.HF_HUB_OFFLINE:
            raise UserError("HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it.")
        if get_token() is None:
            raise UserError(
                "There is no Hub token; log in with `hf auth login`, or set HF_TOKEN to one that "
                "may write (huggingface.co/settings/tokens)."
            )
        self.api = HfApi(library_name="rlhf_dialog")
        self.record = run / RECORD
        self.begun: dict[str, str] = {}
        if self.record.is_file():
            self.begun = json.loads(self.record.read_text(encoding="utf-8"))
        self.user = self._tried(self.api.whoami, "your account")["name"]

    def create(self, repository: Repository, *, private: bool, exist_ok: bool) -> None:
        """A new repository, or one that an earlier push of this run created.

        Raises:
            UserError: it exists and is somebody else's work, or may not be created.
        """
        key = self._key(repository.kind, repository.id)
        known = self._is_own(key)
        exists = not known and self._exists(repository.id, repository.kind)
        if exists and not exist_ok:
            raise _exists(repository.id)
        if not known and not exists:
            self._note(key, FREE)  # the answer may get lost
        try:
            self._tried(
                lambda: self.api.create_repo(
                    repository.id,
                    repo_type=repository.kind,
                    private=private,
                    exist_ok=True,  # a lost answer's second attempt finds its own work
                    space_sdk="gradio" if repository.kind == "space" else None,
                ),
                repository.id,
            )
        except UserError as error:
            cause = error.__cause__
            refused = isinstance(cause, HfHubHTTPError) and not _may_pass(cause)  # it said no
            if not known and refused and key in self.begun:
                del self.begun[key]
                self._save()
            raise
        if known or exists:
            self._make_visible(repository, private=private, ours=known)
        self._note(key, "created")

    def _make_visible(self, repository: Repository, *, private: bool, ours: bool) -> None:
        """What is to be private does not go into what others see; a stranger is left as it is."""
        info = self._tried(
            partial(self.api.repo_info, repository.id, repo_type=repository.kind), repository.id
        )
        if bool(info.private) == private:
            return
        if not ours:
            is_now, flag = ("private", "--private") if info.private else ("public", "--no_private")
            raise UserError(
                f"{repository.id}: exists and is {is_now}; give {flag}, or change it on the Hub."
            )
        change = partial(self.api.update_repo_settings, repository.id, private=private)
        self._tried(partial(change, repo_type=repository.kind), repository.id)

    def refuse_existing(self, model: str) -> None:
        """Raises UserError where there is a model of that id that this run did not make."""
        if not self._is_own(self._key("model", model)) and self._exists(model, "model"):
            raise _exists(model)

    def _exists(self, repo: str, kind: str) -> bool:
        return self._tried(partial(self.api.repo_exists, repo, repo_type=kind), repo)

    def _is_own(self, key: str) -> bool:
        return self.begun.get(key, UNCLEAR) != UNCLEAR

    def upload(self, repository: Repository) -> str:
        """Uploads what is missing or differs; returns the address of the repository."""
        self._tried(
            lambda: self.api.upload_folder(
                repo_id=repository.id,
                repo_type=repository.kind,
                folder_path=repository.folder,
                commit_message="Upload from rlhf_dialog",
            ),
            repository.id,
        )
        self._note(self._key(repository.kind, repository.id), "complete")
        kind = "" if repository.kind == "model" else f"{repository.kind}s/"
        return f"{self.api.endpoint}/{kind}{repository.id}"

    def collect(
        self, title: str, repositories: Sequence[Repository], *, owner: str, private: bool
    ) -> str:
        """A collection of that title, made where there is none; returns its address."""
        collection = self._tried(
            lambda: self.api.create_collection(
                title, namespace=owner, private=private, exists_ok=True
            ),
            f"the collection {title!r}",
        )
        for repository in repositories:
            add = partial(self.api.add_collection_item, collection.slug, exists_ok=True)
            self._tried(
                partial(add, item_id=repository.id, item_type=repository.kind),
                f"the collection {title!r}",
            )
        return f"{self.api.endpoint}/collections/{collection.slug}"

    def _key(self, kind: str, repo: str) -> str:
        return f"{self.api.endpoint} {kind} {repo}"

    def _note(self, key: str, state: str) -> None:
        self.begun[key] = state
        self._save()

    def _save(self) -> None:
        write_atomically(self.record, json.dumps(self.begun, indent=2) + "\n")

    def _tried(self, call: Callable[[], T], what: str) -> T:
        """The call's result; failures that may pass are tried again, longer and longer apart."""
        for attempt in range(ATTEMPTS):
            try:
                return call()
            except Exception as error:
                last = attempt == ATTEMPTS - 1
                if last or not _may_pass(error):
                    raise _told(error, what, self.api.endpoint) from error
                time.sleep(FIRST_WAIT * 2**attempt)
        raise AssertionError("unreachable")


def _status(error: Exception) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _may_pass(error: Exception) -> bool:
    status = _status(error)
    if status is not None:
        return status == 429 or status >= 500
    return _is_network(error)


def _is_network(error: Exception) -> bool:
    """Connections that were refused, cut or timed out; the client's HTTP library, httpx or its
    successor, has exceptions of its own for them."""
    library = type(error).__module__.split(".")[0]
    return isinstance(error, (ConnectionError, TimeoutError)) or library.startswith("httpx")


def _told(error: Exception, what: str, endpoint: str) -> UserError:
    again = "run the same command again to go on"
    if isinstance(error, OfflineModeIsEnabled):
        return UserError("HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it.")
    status = _status(error)
    if status == 401:
        return UserError(
            f"{what}: the Hub does not accept the token; log in again with `hf auth login`, or set "
            "HF_TOKEN to one that may write."
        )
    if status == 403:
        return UserError(
            f"{what}: the token may not write there; give --name an owner of yours, or a token "
            "with the permission to write."
        )
    if status == 409:
        return _exists(what)
    if status is not None and status < 500 and status != 429:
        return UserError(f"{what}: the Hub refused ({status}, {_line(error)}); {again}.")
    if status is not None:
        return UserError(f"{what}: the Hub is out of order ({status}); {again} later.")
    if _is_network(error):
        return UserError(
            f"{what}: {endpoint} cannot be reached ({_line(error)}); check the network, and "
            f"{again}."
        )
    return UserError(f"{what}: the upload stopped ({_line(error)}); {again}.")


def _exists(what: str) -> UserError:
    return UserError(
        f"{what}: exists already and was not made by this run; give another name, or push with "
        "--exist_ok to write into it."
    )


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].rstrip(".") if lines else type(error).__name__
