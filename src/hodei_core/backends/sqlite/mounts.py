"""On which kind of file system a file lies: on those of a network, locks do not hold."""

from __future__ import annotations

import re

_NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "9p",
    "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "pvfs2", "orangefs"
})  # fmt: skip
_NETWORK_FUSE = ("sshfs", "glusterfs", "rclone", "s3fs", "davfs", "ceph", "curlftpfs", "gcsfuse")
_OCTAL = re.compile(r"\\([0-7]{3})")
_MOUNT_POINT, _OPTIONAL = 4, 6  # places in a line, proc_pid_mountinfo(5)


def file_system(path: str, mountinfo: str) -> str:
    """Return the type of the file system that a real, absolute path lies on; "" if unknown.

    Args:
        path: without symbolic links.
        mountinfo: what `/proc/self/mountinfo` says.
    """
    found, deepest = "", -1
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if "-" not in fields[_OPTIONAL:]:
            continue
        mount = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[_MOUNT_POINT])
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= deepest:  # of two on one point, the later hides the other
            deepest = len(mount)
            found = fields[fields.index("-", _OPTIONAL) + 1]
    return found


def is_network(kind: str) -> bool:
    """Return whether a type of file system lies on other machines."""
    name = kind.removeprefix("fuse.")
    return name in _NETWORK or (name != kind and name.startswith(_NETWORK_FUSE))
