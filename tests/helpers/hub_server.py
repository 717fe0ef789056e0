"""A Hub in memory on this machine's loopback, as far as huggingface_hub and transformers talk to one.

Repositories with commits, branches and tags; small files in commits and large ones through git-LFS, in one piece or in
parts; files by branch, tag or commit. Failures can be ordered. Nothing is sent anywhere else.
"""

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "abcdefghijklmnopqrstuvwxyz012345"[:32]
PART_SIZE = 64 * 1024
"""Files of more than this many bytes are sent in parts of this size."""


class Repository:
    def __init__(self):
        self.trees = {}
        self.refs = {}
        self.log = []
        self.commit({}, "initial commit", "main")

    def commit(self, changes, message, branch):
        files = {**self.trees.get(self.refs.get(branch), {}), **changes}
        files = {name: content for name, content in files.items() if content is not None}
        text = json.dumps([len(self.log), message, branch, sorted(files)])
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.trees[oid], self.refs[branch] = files, oid
        self.log.append(message)
        return oid

    def find(self, revision):
        """The commit that a branch, a tag or a commit names."""
        return self.refs.get(revision) or (revision if revision in self.trees else None)


class LoopbackHub:
    """The state of the server, for tests to look at.

    Attributes:
        repositories: By id, those of Spaces with `spaces/` before it.
        objects: Large files, by SHA-256.
        requests: Counts of `method kind`.
        failures: For a kind of request, how many of the next ones break off the connection.
    """

    def __init__(self):
        self.repositories, self.objects, self.parts = {}, {}, {}
        self.requests, self.failures = Counter(), Counter()
        self.lock = threading.Lock()

    @contextmanager
    def running(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def files(self, repo_id, revision="main"):
        repository = self.repositories[repo_id]
        return repository.trees[repository.find(revision)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *args):
        pass

    ROUTES = (
        ("POST", r"/api/repos/create", "create"),
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>.+)", "preupload"),
        ("POST", r"/api/(?P<repo>spaces/[^/]+/[^/]+)/preupload/(?P<revision>.+)", "preupload"),
        ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>.+)", "commit"),
        ("POST", r"/api/(?P<repo>spaces/[^/]+/[^/]+)/commit/(?P<revision>.+)", "commit"),
        ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/branch/(?P<name>.+)", "branch"),
        ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/tag/(?P<revision>.+)", "tag"),
        ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/upload/(?P<oid>\w+)", "upload"),
        ("PUT", r"/upload/(?P<oid>\w+)/(?P<part>\d+)", "upload"),
        ("POST", r"/complete/(?P<oid>\w+)", "complete"),
        ("POST", r"/verify/(?P<oid>\w+)", "verify"),
        ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(/.*)?", "tree"),
        ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/revision/(?P<revision>.+)", "info"),
        ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)", "info"),
        ("HEAD", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
        ("GET", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    )

    def serve(self):
        path = urlsplit(self.path).path
        length = int(self.headers.get("Content-Length") or 0)
        for method, pattern, kind in self.ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == self.command:
                with self.hub.lock:
                    self.hub.requests[f"{method} {kind}"] += 1
                    broken = self.hub.failures[kind] > 0
                    self.hub.failures[kind] -= broken
                if broken:
                    self.rfile.read(length // 2)
                    self.close_connection = True
                    self.connection.close()
                    return
                body = self.rfile.read(length)
                with self.hub.lock:
                    getattr(self, kind)(
                        body, **{name: unquote(value) for name, value in match.groupdict().items() if value}
                    )
                return
        self.rfile.read(length)
        self.answer(404, {"error": f"no such place: {self.command} {path}"})

    do_GET = do_POST = do_PUT = do_HEAD = serve

    def answer(self, status, content=None, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if not isinstance(content, bytes):
            self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def may_write(self):
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self.answer(401, {"error": "Invalid credentials"}, X_Error_Message="Invalid credentials")
        return False

    def repository(self, repo, revision="main"):
        """The repository and the commit, or None after an answer that says what is missing."""
        found = self.hub.repositories.get(repo)
        if found is None:
            self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        oid = found.find(revision)
        if oid is None:
            self.answer(404, {"error": "Revision not found"}, X_Error_Code="RevisionNotFound")
            return None
        return found, oid

    def create(self, body):
        if not self.may_write():
            return
        asked = json.loads(body)
        repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
        place = f"spaces/{repo}" if asked.get("type") == "space" else repo
        known = place in self.hub.repositories
        self.hub.repositories.setdefault(place, Repository())
        self.answer(409 if known else 200, {"url": f"{self.hub.url}/{place}", "name": repo, "id": repo})

    def whoami(self, body):
        if self.may_write():
            self.answer(200, {"name": "me", "type": "user", "orgs": []})

    def validate(self, body):
        self.answer(200, {"errors": [], "warnings": []})

    def preupload(self, body, repo, revision):
        if self.may_write() and self.repository(repo, revision):
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".bin", ".png")) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            self.answer(200, {"files": modes})

    def batch(self, body, repo):
        if not self.may_write():
            return
        objects = []
        for wanted in json.loads(body)["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            entry = {"oid": oid, "size": size}
            if oid not in self.hub.objects:
                upload = {"href": f"{self.hub.url}/upload/{oid}"}
                if size > PART_SIZE:
                    count = -(-size // PART_SIZE)
                    parts = {f"{number:05d}": f"{self.hub.url}/upload/{oid}/{number}" for number in range(1, count + 1)}
                    upload = {
                        "href": f"{self.hub.url}/complete/{oid}",
                        "header": {"chunk_size": str(PART_SIZE), **parts},
                    }
                entry["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.url}/verify/{oid}"}}
            objects.append(entry)
        self.answer(200, {"transfer": "basic", "objects": objects})

    def upload(self, body, oid, part=None):
        if part is None:
            self.store(oid, body)
        else:
            self.hub.parts[oid, int(part)] = body
        self.answer(200, {}, ETag=f'"{hashlib.md5(body).hexdigest()}"')

    def complete(self, body, oid):
        numbers = [part["partNumber"] for part in json.loads(body)["parts"]]
        self.store(oid, b"".join(self.hub.parts.pop((oid, number)) for number in numbers))
        self.answer(200, {})

    def store(self, oid, content):
        assert hashlib.sha256(content).hexdigest() == oid
        self.hub.objects[oid] = content

    def verify(self, body, oid):
        self.answer(200 if oid in self.hub.objects else 404, {})

    def commit(self, body, repo, revision):
        found = self.may_write() and self.repository(repo, revision)
        if not found:
            return
        changes, message = {}, ""
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                changes[value["path"]] = self.hub.objects[value["oid"]]
            else:
                changes[value["path"]] = None
        told = {"success": True}
        if "create_pr=1" in self.path:
            revision = "refs/pr/1"
            found[0].refs[revision] = found[1]
            told["pullRequestUrl"] = f"{self.hub.url}/{repo}/discussions/1"
        oid = found[0].commit(changes, message, revision)
        self.answer(200, {**told, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo}/commit/{oid}"})

    def branch(self, body, repo, name):
        found = self.may_write() and self.repository(repo)
        if found:
            known = name in found[0].refs
            found[0].refs.setdefault(name, found[1])
            self.answer(409 if known else 200, {})

    def tag(self, body, repo, revision):
        found = self.may_write() and self.repository(repo, revision)
        if found:
            found[0].refs[json.loads(body)["tag"]] = found[1]
            self.answer(200, {})

    def info(self, body, repo, revision="main"):
        found = self.repository(repo, revision)
        if found:
            names = [{"rfilename": name} for name in found[0].trees[found[1]]]
            self.answer(
                200, {"id": repo, "modelId": repo, "sha": found[1], "siblings": names, "tags": [], "private": False}
            )

    def tree(self, body, repo, revision):
        found = self.repository(repo, revision)
        if found:
            files = found[0].trees[found[1]].items()
            rows = [
                {"type": "file", "path": name, "size": len(text), "oid": hashlib.sha1(text).hexdigest()}
                for name, text in files
            ]
            self.answer(200, rows)

    def resolve(self, body, repo, revision, path):
        found = self.repository(repo, revision)
        if not found:
            return
        content = found[0].trees[found[1]].get(path)
        if content is None:
            self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=found[1])
            return
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X_Repo_Commit": found[1]}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if span:
            content = content[int(span[1]) : int(span[2]) + 1 if span[2] else None]
        self.answer(206 if span else 200, content, Accept_Ranges="bytes", **headers)
