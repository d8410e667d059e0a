"""A simulated power cut: after the n-th file operation nothing more is written.

Half of what was written but not flushed is lost, as on a real disk, and no cleanup runs after the cut. All file
operations of ``headway.utils.files`` and ``headway.train.run_dir.checkpoint`` go through this class.
"""

import os
import shutil
from pathlib import Path

import safetensors.torch

from headway.train.run_dir import checkpoint


class PowerCut(BaseException):
    """The machine lost its power."""


class Power:
    """Counts operations on files and cuts the power after one of them.

    Args:
        patch: pytest's monkeypatch.
        below: Only what lies below this folder counts.
        cut_after: Which one, from 0; none: never.
        tear: Whether what was not flushed is lost by half.
    """

    def __init__(self, patch, below, cut_after=None, tear=False):
        self.below, self.cut_after, self.tear = Path(below), cut_after, tear
        self.log, self.unflushed, self.off = [], set(), False
        self.opened = {}
        for name in ("replace", "unlink", "mkdir", "rmdir", "fsync"):
            patch.setattr(os, name, self._counted(name, getattr(os, name)))
        patch.setattr(os, "open", self._remember(os.open))
        patch.setattr(checkpoint, "save_file", self._counted("write", safetensors.torch.save_file))
        self.write_bytes = Path.write_bytes
        patch.setattr(Path, "write_bytes", self._counted("write", Path.write_bytes))
        patch.setattr(shutil, "rmtree", self._counted("rmtree", shutil.rmtree))

    def _remember(self, real):
        def call(path, *arguments, **named):
            handle = real(path, *arguments, **named)
            self.opened[handle] = Path(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else None
            return handle

        return call

    def _counted(self, name, real):
        def call(*arguments, **named):
            where = self._path(name, arguments)
            if where is None or not where.is_relative_to(self.below):
                return real(*arguments, **named)
            if self.off:
                raise PowerCut
            answer = real(*arguments, **named)
            if self.off:  # the power was cut within the call
                raise PowerCut
            if name == "write":
                self.unflushed.add(where)
            elif name == "fsync":
                self.unflushed.discard(where)
            elif name == "replace":
                moved = {path for path in self.unflushed if path.is_relative_to(where)}
                target = Path(arguments[1])
                self.unflushed = self.unflushed - moved | {target / path.relative_to(where) for path in moved}
            self.log.append(f"{name} {where.name}")
            if self.cut_after == len(self.log) - 1:
                self._cut()
            return answer

        return call

    def _path(self, name, arguments):
        if name == "fsync":
            return self.opened.get(arguments[0])
        path = arguments[1] if name == "write" and isinstance(arguments[0], dict) else arguments[0]
        return Path(path) if isinstance(path, (str, os.PathLike)) else None

    def _cut(self):
        self.off = True
        if self.tear:
            for path in self.unflushed:
                if path.is_file():
                    content = path.read_bytes()
                    self.write_bytes(path, content[: len(content) // 2])
        raise PowerCut
