"""A hub of models on this machine, over real HTTP: repositories are made, written in commits, and read again."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from support.local_server import LocalServer

TOKEN = "hf_token_of_the_tests"


@dataclass
class FakeModelHub(LocalServer):
    """`models`: name -> file -> content, of the last commit. Writing needs `TOKEN`."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    status: int = 0  # what every request is answered with, if it is set

    def commit_of(self, name: str) -> str:
        """A hash of what a repository holds."""
        content = json.dumps({path: hashlib.sha1(data).hexdigest() for path, data in self.models[name].items()})
        return hashlib.sha1(content.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeModelHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, status: int, value: Any = None, headers: dict[str, str] | None = None, data: bytes = b"") -> None:
        data = json.dumps(value).encode() if value is not None else data
        self.send_response(status)
        for key, text in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.hub.status or self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(self.hub.status or 401, {"error": "no"})
        if self.path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'ann'}/{asked['name']}"
            self.hub.models.setdefault(name, {})
            return self._answer(200, {"url": f"{self.hub.endpoint}/{name}", "name": name})
        name = "/".join(self.path.split("/")[3:5])
        if "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": files})
        lines = [json.loads(line) for line in body.splitlines()]
        for line in lines:
            if line["key"] == "file":
                self.hub.models[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self.hub.commits.append(lines[0]["value"]["summary"])
        oid = self.hub.commit_of(name)
        return self._answer(
            200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{oid}"}
        )

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if self.hub.status:
            return self._answer(self.hub.status, {"error": "no"})
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if name not in self.hub.models:
            return self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        files, commit = self.hub.models[name], self.hub.commit_of(name)
        if parts[0] == "api":
            tree = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
            ]
            if "tree" in parts:
                return self._answer(200, tree)
            siblings = [{"rfilename": path} for path in files]
            return self._answer(
                200, {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "private": False, "tags": []}
            )
        path = "/".join(parts[4:])
        if path not in files:
            return self._answer(
                404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            )
        etag = hashlib.sha256(files[path]).hexdigest()
        return self._answer(
            200, None, {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Content-Type": "text/plain"}, files[path]
        )


FakeModelHub.handler = _Handler
