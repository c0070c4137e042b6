"""A Hub on this machine, as far as `huggingface_hub`'s client asks for one, with faults to order.

Files are kept in memory. What the client sends decides everything: nothing here knows the project.
A request that no rule answers is a failure of the test (`hub.unknown`).
"""

import base64
import hashlib
import json
import re
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse

import yaml

TOKEN = "hf_tokenOfTheTests0001"
OWNERS = {TOKEN: "me"}


@dataclass
class StoredRepository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)  # paths that came through LFS
    commits: int = 0

    @property
    def head(self):
        return f"{self.commits:040x}"


class LoopbackHub:
    """`with LoopbackHub() as hub`: serves on `hub.url` until the end of the block.

    Args:
        lfs: send *.safetensors through git-lfs, as the Hub does with clients without xet.
    """

    def __init__(self, lfs=False):
        self.lfs = lfs
        self.repositories: dict[tuple[str, str], StoredRepository] = {}
        self.blobs: dict[str, bytes] = {}
        self.collections: dict[str, dict] = {}
        self.seen: Counter = Counter()
        self.unknown: list[str] = []
        self.faults: list[list] = []  # [pattern of "METHOD path", what happens, how often]

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Requests)
        self.server.hub = self
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def fail(self, pattern, what, times=1):
        """The next `times` requests that match get status `what`, are cut off in the middle
        ("cut"), or are obeyed and never answered ("lost")."""
        self.faults.append([re.compile(pattern), what, times])


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer_request(self):
        hub, url = self.server.hub, urlparse(self.path)
        line = f"{self.command} {unquote(url.path)}"
        hub.seen[line] += 1
        for fault in hub.faults:
            if fault[2] and fault[0].search(line):
                fault[2] -= 1
                if fault[1] == "lost":
                    self.reply = lambda *_, **__: self.hang_up()
                    break
                if fault[1] == "cut":
                    self.rfile.read(min(1000, int(self.headers.get("Content-Length", 0))))
                    self.hang_up()
                else:
                    self.body()
                    self.reply(fault[1], {"error": "to order"})
                return
        content = self.body()
        for pattern, rule in _RULES:
            if match := re.fullmatch(pattern, line):
                rule(self, hub, content, {k: v[0] for k, v in parse_qs(url.query).items()}, match)
                return
        hub.unknown.append(line)
        self.reply(404, {"error": "no rule"})

    do_GET = do_HEAD = do_POST = do_PUT = answer_request

    def hang_up(self):
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def reply(self, status, value=None, content=b"", **headers):
        if value is not None:
            content = json.dumps(value).encode()
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(content)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    @property
    def user(self):
        return OWNERS.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))

    def find(self, hub, match):
        """The repository that the request names and may see; answers 404 and gives None else."""
        kind = (match["kinds"] or "models").rstrip("/").rstrip("s")
        stored = hub.repositories.get((kind, match["repo"]))
        if stored is None or (stored.private and self.user is None):
            self.reply(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        return stored


def who(request, hub, content, query, match):
    if request.user is None:
        return request.reply(401, {"error": "Invalid username or password."})
    return request.reply(200, {"type": "user", "name": request.user, "orgs": []})


def create(request, hub, content, query, match):
    asked = json.loads(content)
    kind, owner = asked.get("type", "model"), asked.get("organization") or request.user
    repo = f"{owner}/{asked['name']}"
    if owner != request.user:
        return request.reply(403, {"error": "You don't have the rights to create it"})
    prefix = "" if kind == "model" else f"{kind}s/"
    told = {"url": f"{hub.url}/{prefix}{repo}", "name": repo, "id": repo}
    if (kind, repo) in hub.repositories:
        return request.reply(409, told | {"error": "You already created this repo"})
    hub.repositories[kind, repo] = StoredRepository(asked.get("visibility") == "private")
    return request.reply(200, told)


def settings(request, hub, content, query, match):
    stored = request.find(hub, match)
    if stored is not None:
        asked = json.loads(content)
        stored.private = asked.get("visibility", asked.get("private")) in ("private", True)
        request.reply(200, {})


def preupload(request, hub, content, query, match):
    stored = request.find(hub, match)
    if stored is None:
        return
    files = []
    for file in json.loads(content)["files"]:
        path = file["path"]
        large = hub.lfs and path.endswith(".safetensors")
        oid = None
        if path in stored.files:
            oid = _etag(stored, path)
        mode = "lfs" if large else "regular"
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    request.reply(200, {"files": files, "commitOid": stored.head})


def lfs_batch(request, hub, content, query, match):
    objects = []
    for item in json.loads(content)["objects"]:
        entry = {"oid": item["oid"], "size": item["size"]}
        if item["oid"] not in hub.blobs:
            entry["actions"] = {"upload": {"href": f"{hub.url}/blobs/{item['oid']}"}}
        objects.append(entry)
    request.reply(200, {"transfer": "basic", "objects": objects})


def put_blob(request, hub, content, query, match):
    assert hashlib.sha256(content).hexdigest() == match["oid"]
    hub.blobs[match["oid"]] = content
    request.reply(200, {})


def commit(request, hub, content, query, match):
    stored = request.find(hub, match)
    if stored is None:
        return
    for line in content.splitlines():
        entry = json.loads(line)
        value = entry["value"]
        if entry["key"] == "file":
            stored.files[value["path"]] = base64.b64decode(value["content"])
        elif entry["key"] == "lfsFile":
            stored.files[value["path"]] = hub.blobs[value["oid"]]
            stored.large.add(value["path"])
    stored.commits += 1
    url = f"{hub.url}/{match['repo']}/commit/{stored.head}"
    request.reply(200, {"success": True, "commitOid": stored.head, "commitUrl": url})


def info(request, hub, content, query, match):
    stored = request.find(hub, match)
    if stored is not None:
        siblings = [{"rfilename": path} for path in stored.files]
        told = {"id": match["repo"], "sha": stored.head, "private": stored.private}
        request.reply(200, told | {"siblings": siblings, "tags": [], "gated": False})


def tree(request, hub, content, query, match):
    stored = request.find(hub, match)
    if stored is None:
        return
    inside = (match["path"] or "").strip("/")
    entries, folders = [], set()
    for path, data in stored.files.items():
        if inside and not path.startswith(f"{inside}/"):
            continue
        rest = path[len(inside) :].lstrip("/")
        if "/" in rest and query.get("recursive", "false").lower() != "true":
            folders.add(f"{inside}/{rest.split('/')[0]}".lstrip("/"))
            continue
        entry = {"type": "file", "path": path, "size": len(data), "oid": _etag(stored, path)}
        if path in stored.large:
            entry["lfs"] = {"oid": _etag(stored, path), "size": len(data), "pointerSize": 1}
        entries.append(entry)
    entries += [{"type": "directory", "path": f, "oid": "0" * 40, "size": 0} for f in folders]
    if inside and not entries:
        request.reply(404, {"error": "no entry"}, X_Error_Code="EntryNotFound")
    else:
        request.reply(200, entries)


def paths_info(request, hub, content, query, match):
    stored = request.find(hub, match)
    if stored is None:
        return
    try:
        paths = json.loads(content)["paths"]
    except ValueError:
        paths = parse_qs(content.decode())["paths"]
    told = [
        {"type": "file", "path": p, "size": len(stored.files[p]), "oid": _etag(stored, p)}
        for p in paths
        if p in stored.files
    ]
    request.reply(200, told)


def resolve(request, hub, content, query, match):
    stored = request.find(hub, match)
    if stored is None:
        return
    if match["revision"] not in ("main", stored.head):
        request.reply(404, {"error": "no revision"}, X_Error_Code="RevisionNotFound")
        return
    data = stored.files.get(match["path"])
    if data is None:
        request.reply(404, X_Error_Code="EntryNotFound", X_Repo_Commit=stored.head)
        return
    told = {"ETag": f'"{_etag(stored, match["path"])}"', "X_Repo_Commit": stored.head}
    if wanted := re.match(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or ""):
        first, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
        told["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
        request.reply(206, content=data[first : last + 1], **told)
    else:
        request.reply(200, content=data, **told)


def validate_yaml(request, hub, content, query, match):
    header = yaml.safe_load(json.loads(content)["content"].split("---\n")[1])
    errors = [] if isinstance(header, dict) else [{"message": "no mapping"}]
    request.reply(200, {"errors": errors, "warnings": []})


def make_collection(request, hub, content, query, match):
    asked = json.loads(content)
    slug = f"{asked['namespace']}/{asked['title'].lower().replace(' ', '-')}-1"
    status = 409 if slug in hub.collections else 200
    entry = {"slug": slug, "title": asked["title"], "owner": {"name": asked["namespace"]}}
    entry |= {"items": [], "private": asked["private"], "position": 0, "theme": "pink"}
    entry |= {"upvotes": 0, "lastUpdated": "2026-01-01T00:00:00.000Z", "description": ""}
    request.reply(status, hub.collections.setdefault(slug, entry))


def show_collection(request, hub, content, query, match):
    request.reply(200, hub.collections[match["slug"]])


def add_item(request, hub, content, query, match):
    collection = hub.collections[match["slug"]]
    item = json.loads(content)["item"]
    known = any(entry["id"] == item["id"] for entry in collection["items"])
    if not known:
        collection["items"].append(item | {"_id": f"{len(collection['items'])}", "position": 0})
    request.reply(409 if known else 200, collection)


def _etag(stored, path):
    data = stored.files[path]
    if path in stored.large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


_API = r"/api/(?P<kinds>models|datasets|spaces)/(?P<repo>[^/]+/[^/]+)"
_PAGE = r"/(?P<kinds>datasets/|spaces/)?(?P<repo>[^/]+/[^/]+)"
_RULES = [
    (r"GET /api/whoami-v2", who),
    (r"POST /api/repos/create", create),
    (rf"PUT {_API}/settings", settings),
    (rf"POST {_API}/preupload/main", preupload),
    (rf"POST {_API}/commit/main", commit),
    (rf"POST {_API}/paths-info/[^/]+", paths_info),
    (rf"GET {_API}(?:/revision/[^/]+)?", info),
    (rf"GET {_API}/tree/[^/]+(?P<path>/.*)?", tree),
    (r"POST /(?:datasets/|spaces/)?[^/]+/[^/]+\.git/info/lfs/objects/batch", lfs_batch),
    (r"PUT /blobs/(?P<oid>[0-9a-f]{64})", put_blob),
    (rf"(?:GET|HEAD) {_PAGE}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", resolve),
    (r"POST /api/validate-yaml", validate_yaml),
    (r"POST /api/collections", make_collection),
    (r"POST /api/collections/(?P<slug>[^/]+/[^/]+)/items", add_item),
    (r"GET /api/collections/(?P<slug>[^/]+/[^/]+)", show_collection),
]
