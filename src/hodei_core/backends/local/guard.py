"""The guard: the small process that starts the jobs of one host and ends what they leave.

It runs alone, by path, as `python -I -S guard.py HOST_PID [JOURNAL HOST_ID]`, under any
supported Python, with its end of a socket pair as descriptor 3, in a session of its own, all
signals blocked. So it is one file, longer than the others, and imports nothing but what starts
fast: `_socket` and `_signal` are `socket` and `signal` without their enums, which would double
the time to start.

Each datagram holds fields that end in front of a NUL, which no argument or variable contains.

From the host, one request each:
    base    cwd, host id, NAME=VALUE...
    start   number, job id, attempt, cwd, memory, argument count, arguments..., NAME=VALUE...
            with the descriptors stdout, stderr and, unless it is empty, stdin
    end     number, grace: SIGTERM, `grace` seconds, SIGKILL; answered by `gone`
    ping    number; answered by `pong`
    lease   instant (CLOCK_BOOTTIME) at which the host may be taken for dead; empty: never
    long    number; the first descriptor is a file that holds the request

To the host, notices of a fixed number of fields, one after the other:
    hello
    started number, pid, instant (CLOCK_MONOTONIC)
    exited  number, wait status, instant of the start, CPU seconds, max RSS in KiB, left (0 or 1)
    failed  number, "refused" or "passing", text
    gone    number
    pong    number

When the host is gone, however it went, has shut the socket, or its lease is over, all that
runs is killed.

The journal tells other hosts what became of the jobs of a dead one. It is locked (`flock`) as
long as the guard lives, and holds lines of fields with spaces between:
    journal 1 BOOT_ID PID_NAMESPACE START HOST_ID SINCE
            START: of the guard, in ticks since the boot; SINCE: a job that was asked for after
            this instant (seconds since 1970) and has no line was never started
    start   job id, attempt, instant: in front of its start
    failed  job id, attempt: it was not started after all
    exit    job id, attempt, wait status, CPU seconds, max RSS in KiB, asked (0 or 1), instant
            asked: the host had asked for its end, so the status proves nothing
    ended   nothing is left of any job
"""

import _signal  # type: ignore[import-not-found]
import _socket
import errno
import fcntl
import os
import resource
import select
import sys
import time

SOCKET = 3
MAX_REQUEST = 16 * 1024  # bytes; a longer request comes in a file
MAX_NOTICES = 2048  # bytes in one datagram, for the host serves one without a pause
MAX_ARGUMENT = 128 * 1024 - 1  # bytes: MAX_ARG_STRLEN of the kernel, without its NUL
MAX_TEXT = 4096  # bytes of a message for people
PATIENCE = 0.01  # seconds that a start may stay untold: the exit of a short job tells it
TICK = 0.05  # seconds between looks at a tree that is ending
UNSURE_TICK = 0.002  # seconds until a process in the midst of an exec is looked at again
UNSURE_LOOKS = 50  # after so many it is taken for nobody's
EXITING_LOOKS = 2_500  # after so many, if it ends: to give gigabytes back takes its time
ROOM = 64 * 1024 * 1024  # bytes of memory that the guard needs less of, also to start a job
MAX_JOURNAL = 1024 * 1024  # bytes; then its older half goes
DOUBT = 0.02  # seconds; a host dies within less, and its jobs may fail of its closed pipes before
PR_SET_CHILD_SUBREAPER = 36
PF_EXITING = 0x00000004  # among the flags of a process: it ends
PF_KTHREAD = 0x00200000  # the same: it is a thread of the kernel
FLAGS = 6  # among the fields that `stat_of` returns
ENV_END = 48  # the same: where the variables lie, 0 in an exec

NOBODY, UNSURE = 0, -1  # beside the numbers of jobs, which start at 1

PASSING = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
ALL_SIGNALS = _signal.valid_signals()
END_SIGNALS = (_signal.SIGTERM, _signal.SIGCONT)  # what is stopped must go on to hear SIGTERM
KILL_SIGNALS = (_signal.SIGKILL,)


class NotStarted(Exception):  # noqa: N818 - an answer, not an error of the guard
    """A job was not started: `passing` tells whether it may be tried again."""

    def __init__(self, text: bytes, *, passing: bool = False) -> None:
        super().__init__(text)
        self.text: bytes = text[:MAX_TEXT]
        self.passing = passing


class Job:
    """A job that runs, or that has left something behind."""

    __slots__ = (
        "asked",
        "ends",
        "id",
        "key",
        "kill_at",
        "number",
        "pid",
        "running",
        "since",
        "started",
        "told",
    )

    def __init__(self, number: int, job_id: bytes, attempt: bytes, ends: list[int]) -> None:
        self.number: int = number
        self.id: bytes = job_id
        self.key: bytes = job_id + b" " + attempt
        self.since: float = 0.0  # when its start was noted, by the wall clock
        self.asked: bool = False  # whether the host asked for its end while it ran
        # Of its pipes: held until its exit is told, so that both come at once.
        self.ends: list[int] = ends
        self.pid: int = 0
        self.started: float = 0.0
        self.told: bool = False
        self.running: bool = True
        self.kill_at: float = float("inf")  # when SIGKILL follows; finite once it was told to end


# What /proc tells; the sweep of the host reads it by the same functions


def read(path: str) -> bytes:
    """Return what a file holds; nothing if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return read_all(fd)
    except OSError:
        return b""
    finally:
        os.close(fd)


def read_all(fd: int) -> bytes:
    """Return what is left to read of a file."""
    parts = []
    while part := os.read(fd, 65536):
        parts.append(part)
    return b"".join(parts)


def stat_of(pid: int) -> list[bytes]:
    """Return state, parent and what follows of `/proc/PID/stat`; nothing if it is gone."""
    return read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def children_of(pid: int) -> list[int]:
    """Return the children of a process, of all its threads."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found = b" ".join(read(f"/proc/{pid}/task/{thread}/children") for thread in threads)
    return [int(child) for child in found.split()]


def children_by_scan(pid: int) -> list[int]:
    """Return the children of a process where the kernel has no `children` files."""
    parent = b"%d" % pid
    others = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [other for other in others if stat_of(other)[1:2] == [parent]]


def marks_of(pid: int) -> dict[bytes, bytes] | None:
    """Return the HODEI_ variables that a process started with; None while it is in an exec."""
    before = stat_of(pid)
    environment = read(f"/proc/{pid}/environ")
    if not environment:
        return None if in_exec(before, stat_of(pid)) else {}
    marks = {}
    for variable in environment.split(b"\0"):
        if variable.startswith(b"HODEI_"):
            name, _, value = variable.partition(b"=")
            marks[name] = value
    return marks


def in_exec(before: list[bytes], after: list[bytes]) -> bool:
    """Return whether a process that showed no variables was in an exec between two looks."""
    if not after or after[0] in b"ZX" or int(after[FLAGS]) & PF_KTHREAD:
        return False
    end = after[ENV_END : ENV_END + 1]
    return end == [b"0"] or end != before[ENV_END : ENV_END + 1]


def is_exiting(pid: int) -> bool:
    """Return whether a process ends: what it started with is not shown any more."""
    stat = stat_of(pid)
    return bool(stat) and bool(int(stat[FLAGS]) & PF_EXITING)


# Starting one program


def find_program(name: bytes, env: dict[bytes, bytes]) -> bytes:
    """Return the path of a program: as given, or the first in the job's PATH that may run."""
    if b"/" in name:
        return name
    path = env.get(b"PATH", os.defpath.encode())
    candidates = [(folder or b".") + b"/" + name for folder in path.split(b":")]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return candidate
    for candidate in candidates:
        if os.path.isfile(candidate):
            raise NotStarted(b"not executable: '%s'" % candidate)
    raise NotStarted(b"no such program: '%s' (looked in PATH=%s)" % (name, path))


def enter(folder: bytes) -> None:
    """Make a directory the current one."""
    try:
        os.chdir(folder)
    except OSError as error:
        if error.errno in PASSING:
            raise
        text = {
            errno.ENOENT: b"no such directory: '%s'",
            errno.ENOTDIR: b"not a directory: '%s'",
            errno.EACCES: b"no permission to enter the directory '%s'",
        }.get(error.errno or 0, b"cannot enter the directory '%s': " + reason(error))
        raise NotStarted(text.replace(b"%s", folder)) from None


def reason(error: OSError) -> bytes:
    """Return the system's words for an error."""
    return os.strerror(error.errno or 0).encode()


def explain(
    error: OSError, program: bytes, argv: list[bytes], env: dict[bytes, bytes]
) -> NotStarted:
    """Return in plain words why the system did not run a program."""
    number = error.errno or 0
    if number in PASSING:
        return NotStarted(b"the system could start no process: " + reason(error), passing=True)
    if number == errno.E2BIG:
        return NotStarted(explain_size(argv, env))
    if number == errno.ENOENT and os.path.exists(program):
        return NotStarted(explain_interpreter(program))
    if number == errno.EACCES and os.path.isdir(program):
        return NotStarted(b"not a program but a directory: '%s'" % program)
    text = {
        errno.ENOENT: b"no such program: '%s'",
        errno.ENOTDIR: b"no such program: '%s' (a part of the path is no directory)",
        errno.EACCES: b"not executable: '%s'",
        errno.ENOEXEC: b"not executable: '%s' is in no format that the system runs"
        b" (a script needs a first line such as #!/bin/sh)",
        errno.ETXTBSY: b"not executable: '%s' is open for writing",
    }.get(number, b"cannot run '%s': " + reason(error))
    return NotStarted(text.replace(b"%s", program))


def explain_size(argv: list[bytes], env: dict[bytes, bytes]) -> bytes:
    """Return which of arguments and variables is too large."""
    for position, argument in enumerate(argv):
        if len(argument) > MAX_ARGUMENT:
            return b"an argument is too long: number %d has %d bytes; one may have %d bytes" % (
                position,
                len(argument),
                MAX_ARGUMENT,
            )
    for name, value in env.items():
        size = len(name) + 1 + len(value)
        if size > MAX_ARGUMENT:
            return b"a variable is too long: %s has %d bytes with its name; one may have %d" % (
                name[:256],
                size,
                MAX_ARGUMENT,
            )
    return b"arguments and environment are too large together for the system"


def explain_interpreter(program: bytes) -> bytes:
    """Return what is missing to run a program that is there."""
    try:
        with open(program, "rb") as file:
            line = file.read(256).partition(b"\n")[0]
    except OSError:
        line = b""
    if line.startswith(b"#!"):
        interpreter = line[2:].strip(b" \t").split(b" ")[0]
        return b"the interpreter of '%s' does not exist: '%s'" % (program, interpreter)
    return b"the loader or the interpreter that '%s' asks for does not exist" % program


def limit_memory(pid: int, size: int) -> None:
    """Limit the data segment of a process, 0 for the guard's own, to `size` bytes.

    What a process starts inherits its limit, so the guard takes a job's before it starts it:
    set from outside alone, the limit could come after the job's first child.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    try:  # noqa: SIM105 - as in `prepare`
        resource.prlimit(pid, resource.RLIMIT_DATA, (size, size if pid else hard))
    except OSError:
        pass  # it has ended


class Journal:
    """Tells who comes when the host is dead what was started, and how it ended.

    Bounded: once it is large its older half goes, and `since` moves on.
    """

    def __init__(self, path: bytes, host_id: bytes) -> None:
        self.path: bytes = path
        boot = read("/proc/sys/kernel/random/boot_id").strip()
        space = os.readlink("/proc/self/ns/pid").encode()
        start = stat_of(os.getpid())[19]
        self.head: bytes = b" ".join((b"journal 1", boot, space, start, host_id))
        self.since: float = 0.0
        self.latest: float = 0.0  # instant of a start
        self.fd: int = open_locked(path)
        self.size: int = 0
        self.half: int = 0  # where the newer half begins; 0: it does not yet
        self.half_since: float = 0.0
        if not self.append(self.first_line()):
            raise SystemExit("there is no space for the journal")

    def first_line(self) -> bytes:
        """Return the line that tells what the others prove."""
        return b"%s %.6f\n" % (self.head, self.since)

    def append(self, line: bytes) -> bool:
        """Write a line; whether it is there."""
        try:
            written = os.write(self.fd, line)
        except OSError:
            written = 0
        if written == len(line):
            self.size += written
            return True
        if written:
            os.ftruncate(self.fd, self.size)
        return False

    def start(self, job: Job) -> bool:
        """Note that a job is about to be started; whether that is there."""
        job.since = time.time()
        self.latest = max(self.latest, job.since)
        return self.append(start_line(job))

    def make_room(self, jobs: list[Job]) -> None:
        """Drop the older half of a large journal, but for the starts of jobs that run."""
        if not self.half and self.size > MAX_JOURNAL // 2:
            self.half, self.half_since = self.size, self.latest
        if self.size <= MAX_JOURNAL:
            return
        old, size, since = self.fd, self.size, self.since
        newer = os.pread(old, size - self.half, self.half)
        self.since = self.half_since
        content = self.first_line() + b"".join(map(start_line, jobs)) + newer
        try:
            self.fd, self.size = open_locked(self.path + b".new"), 0
            if not self.append(content):
                raise OSError(errno.ENOSPC, "no space")
            os.rename(self.path + b".new", self.path)
        except OSError:  # it goes on growing until there is space
            if self.fd != old:
                os.close(self.fd)
            self.fd, self.size, self.since = old, size, since
        else:
            os.close(old)
            self.half = 0


def start_line(job: Job) -> bytes:
    """Return the line of a journal that tells of a start."""
    return b"start %s %.6f\n" % (job.key, job.since)


def open_locked(path: bytes) -> int:
    """Return a new, empty file that nobody else has, locked."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                os.fchmod(fd, 0o600)
                os.ftruncate(fd, 0)
                return fd
        except (BlockingIOError, FileNotFoundError):  # somebody looks whether it may go
            time.sleep(UNSURE_TICK)
        except OSError:
            os.close(fd)
            raise
        os.close(fd)


class Guard:
    """Starts jobs, tells how they end, and ends what they leave."""

    def __init__(self, host_pid: int, journal: Journal | None) -> None:
        self.journal: Journal | None = journal
        self.doubtful: list[tuple[float, bytes]] = []  # exits, and until when they prove nothing
        self.lease: float = float("inf")  # when it is over, by CLOCK_BOOTTIME
        self.pid: int = os.getpid()
        self.host: int = os.pidfd_open(host_pid)
        if os.getppid() != host_pid:  # it had ended, and the number may be another's
            raise SystemExit(0)
        self.socket: _socket.socket = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, SOCKET
        )
        self.null: int = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.child_exits: int = open_child_exits()
        self.poll: select.epoll = select.epoll()
        for fd in (self.host, SOCKET, self.child_exits):
            self.poll.register(fd, select.EPOLLIN)
        try:
            self.children_file: int = os.open(
                f"/proc/self/task/{self.pid}/children", os.O_RDONLY | os.O_CLOEXEC
            )
        except OSError:
            self.children_file = -1
        self.cwd: bytes = b"/"
        self.host_id: bytes = b""
        self.base: dict[bytes, bytes] = {}
        self.jobs: dict[int, Job] = {}  # by number: that run, or have left something behind
        self.leaders: dict[int, Job] = {}  # the same by the pid of the leader
        self.running: int = 0
        self.untold: list[Job] = []  # started, in order of the start
        self.ending: dict[int, Job] = {}
        self.owners: dict[int, int] = {}  # whose the processes are that came to the guard
        self.unsure: dict[int, int] = {}  # how often each was looked at in vain
        self.outbox: list[bytes] = []
        self.blocked: bool = False

    # Serving

    def serve(self) -> None:
        """Serve the host until it is gone or has shut the socket."""
        self.outbox.append(b"hello")
        self.flush()
        while True:
            patience = self.patience()
            looked = time.monotonic()
            ready = dict(self.poll.poll(patience))
            if self.host in ready:
                return
            if self.child_exits in ready:
                self.reap()
            events = ready.get(SOCKET, 0)
            if events & select.EPOLLOUT:
                self.blocked = False
                self.poll.modify(SOCKET, select.EPOLLIN)
            if events & ~select.EPOLLOUT and not self.receive():
                return
            if self.ending:
                self.press()
            if self.doubtful and not events & select.EPOLLHUP:
                self.settle(looked)
            self.flush()
            if self.lease <= boot_time() and not events & select.EPOLLIN:
                os.write(2, b"the lease of its host was over")
                return

    def patience(self) -> float | None:
        """Return how many seconds there is nothing to do unless something happens."""
        waits = []
        if self.untold:
            waits.append(self.untold[0].started + PATIENCE - time.monotonic())
        if self.ending:
            kill_at = min(job.kill_at for job in self.ending.values())
            waits.append(min(max(kill_at - time.monotonic(), UNSURE_TICK), TICK))
        if self.unsure and self.ending:
            waits.append(UNSURE_TICK)
        if self.doubtful:
            waits.append(self.doubtful[0][0] - time.monotonic())
        if self.lease != float("inf"):
            waits.append(self.lease - boot_time())
        return max(min(waits), 0) if waits else None

    def receive(self) -> bool:
        """Serve one request; False when the host has shut the socket."""
        try:
            data, control, flags, _ = self.socket.recvmsg(
                MAX_REQUEST,
                _socket.CMSG_SPACE(4 * 4),
                _socket.MSG_CMSG_CLOEXEC | _socket.MSG_DONTWAIT,
            )
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        fds = [fd for _, _, content in control for fd in memoryview(content).cast("i")]
        fields = data.split(b"\0")
        if fields[0] in (b"start", b"long") and flags & _socket.MSG_CTRUNC:
            close_all(fds)
            self.fail(fields[1], NotStarted(b"the guard is out of descriptors", passing=True))
            return True
        if fields[0] == b"long":
            body = fds.pop(0)
            fields = os.pread(body, os.fstat(body).st_size, 0).split(b"\0")
            os.close(body)
        if fields[0] == b"start":
            self.start(fields, fds)
        elif fields[0] == b"end":
            self.end(fields[1], float(fields[2]))
        elif fields[0] == b"ping":
            self.outbox.append(b"pong\0" + fields[1])
        elif fields[0] == b"lease":
            self.lease = float(fields[1] or b"inf")
        else:
            self.cwd, self.host_id = fields[1], fields[2]
            self.base = environment(fields[3:])
        return True

    def flush(self) -> None:
        """Send what is to be told, starts only once they are `PATIENCE` old."""
        if self.untold:
            due = time.monotonic() - PATIENCE
            while self.untold and (self.untold[0].told or self.untold[0].started <= due):
                job = self.untold.pop(0)
                if not job.told:
                    job.told = True
                    self.outbox.append(
                        b"started\0%d\0%d\0%.6f" % (job.number, job.pid, job.started)
                    )
        while self.outbox and not self.blocked:
            count, size = 1, len(self.outbox[0])
            while count < len(self.outbox) and size + len(self.outbox[count]) < MAX_NOTICES:
                size += len(self.outbox[count]) + 1
                count += 1
            try:
                self.socket.send(b"\0".join(self.outbox[:count]), _socket.MSG_DONTWAIT)
            except BlockingIOError:
                self.blocked = True
                self.poll.modify(SOCKET, select.EPOLLIN | select.EPOLLOUT)
                return
            except OSError:
                return  # the host is gone; the next poll tells
            del self.outbox[:count]

    # Starting

    def start(self, fields: list[bytes], fds: list[int]) -> None:
        """Start a job; its descriptors are stdout, stderr and perhaps stdin."""
        _, number, job_id, attempt, cwd, memory, count = fields[:7]
        end_of_arguments = 7 + int(count)
        job = Job(int(number), job_id, attempt, fds[:2])
        stdin = fds[2] if len(fds) > 2 else self.null
        env = self.base | environment(fields[end_of_arguments:])
        env[b"HODEI_JOB_ID"], env[b"HODEI_ATTEMPT"] = job_id, attempt
        env[b"HODEI_HOST"] = self.host_id
        size = min(int(memory or 0), sys.maxsize)
        own_limit = resource.getrlimit(resource.RLIMIT_DATA)
        try:
            self.note_start(job)
            if memory:
                limit_memory(0, max(size, ROOM))
            self.spawn(job, cwd or self.cwd, fields[7:end_of_arguments], env, stdin)
        except NotStarted as answer:
            if self.journal is not None and job.since:
                self.journal.append(b"failed %s\n" % job.key)
            close_all(job.ends)
            self.fail(number, answer)
            return
        finally:
            close_all(fds[2:])
            if memory:
                resource.setrlimit(resource.RLIMIT_DATA, own_limit)
        if memory:
            limit_memory(job.pid, size)
        self.jobs[job.number] = self.leaders[job.pid] = job
        self.running += 1
        self.untold.append(job)

    def note_start(self, job: Job) -> None:
        """Write into the journal that a job is about to be started."""
        if self.journal is None:
            return
        self.journal.make_room(list(self.jobs.values()))
        if not self.journal.start(job):
            job.since = 0.0
            raise NotStarted(b"its start could not be written to the journal", passing=True)

    def spawn(
        self, job: Job, cwd: bytes, argv: list[bytes], env: dict[bytes, bytes], stdin: int
    ) -> None:
        """Start the leader of a job, or raise `NotStarted`."""
        program = argv[0]
        stdout, stderr = job.ends
        try:
            enter(cwd)
            program = find_program(argv[0], env)
            job.started = time.monotonic()
            job.pid = os.posix_spawn(
                program,
                argv,
                env,
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, stdin, 0),
                    (os.POSIX_SPAWN_DUP2, stdout, 1),
                    (os.POSIX_SPAWN_DUP2, stderr, 2),
                ),
                setsid=True,
                setsigmask=(),
                setsigdef=ALL_SIGNALS,
            )
        except OSError as error:
            raise explain(error, program, argv, env) from None
        except MemoryError:
            raise NotStarted(b"the guard is out of memory", passing=True) from None
        except ValueError as error:  # what the host lets through and the interpreter does not
            raise NotStarted(b"cannot run it: " + str(error).encode()) from None
        finally:
            os.chdir("/")  # the guard keeps no directory in use

    def fail(self, number: bytes, answer: NotStarted) -> None:
        """Tell that a job was not started."""
        kind = b"passing" if answer.passing else b"refused"
        self.outbox.append(b"failed\0%s\0%s\0%s" % (number, kind, answer.text))

    # Exits

    def reap(self) -> None:
        """Take in every process that has ended, and tell the exits of jobs."""
        os.read(self.child_exits, 128)  # before the look: what ends from now on wakes it again
        ended = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            job = self.leaders.get(pid)
            if job is None or not job.running:
                self.owners.pop(pid, None)
                self.unsure.pop(pid, None)
                continue
            job.running = False
            job.told = True
            self.running -= 1
            ended.append((job, status, usage))
        if not ended:
            return
        orphans = self.orphans()
        for job, status, usage in ended:
            left = job.number in orphans or UNSURE in orphans
            close_all(job.ends)
            if self.journal is not None:
                self.note_exit(self.journal, job, status, usage)
            self.outbox.append(
                b"exited\0%d\0%d\0%.6f\0%.6f\0%d\0%d"
                % (
                    job.number,
                    status,
                    job.started,
                    usage.ru_utime + usage.ru_stime,
                    usage.ru_maxrss,
                    left,
                )
            )
            if not left and job.number not in self.ending:
                self.forget(job)

    def note_exit(
        self, journal: Journal, job: Job, status: int, usage: resource.struct_rusage
    ) -> None:
        """Write into the journal how a job ended.

        A job may fail since the pipes of a dying host are closed, before that host is dead. So
        a failure is written when the host has been alive for a while after it.
        """
        line = b"exit %s %d %.6f %d %d %.6f\n" % (
            job.key,
            status,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss,
            job.asked,
            time.time(),
        )
        if status and not job.asked:
            self.doubtful.append((time.monotonic() + DOUBT, line))
        else:
            journal.append(line)

    def settle(self, looked: float) -> None:
        """Write the failures that were long enough before a look at the host, which lives."""
        while self.doubtful and self.doubtful[0][0] <= looked:
            _, line = self.doubtful.pop(0)
            if self.journal is not None:
                self.journal.append(line)

    def forget(self, job: Job) -> None:
        """Drop a job of which nothing is left."""
        del self.jobs[job.number]
        self.ending.pop(job.number, None)
        if self.leaders.get(job.pid) is job:  # else its number has gone to another job
            del self.leaders[job.pid]

    # Ending trees

    def end(self, number: bytes, grace: float) -> None:
        """Begin to end all that is of a job; `gone` is told when it is."""
        job = self.jobs.get(int(number))
        if job is None:
            self.outbox.append(b"gone\0" + number)
            return
        job.asked = job.asked or job.running
        if grace > 0 and job.kill_at > time.monotonic():
            self.signal_tree(job, self.orphans().get(job.number, []), END_SIGNALS)
        job.kill_at = min(job.kill_at, time.monotonic() + grace)
        self.ending[job.number] = job

    def press(self) -> None:
        """Look at each tree that is ending: kill it if it is time, tell if it is gone."""
        orphans = self.orphans()
        now = time.monotonic()
        for job in list(self.ending.values()):
            mine = orphans.get(job.number, [])
            if not job.running and not mine and UNSURE not in orphans:
                self.outbox.append(b"gone\0%d" % job.number)
                self.forget(job)
            elif now >= job.kill_at:
                self.signal_tree(job, mine, KILL_SIGNALS)

    def signal_tree(self, job: Job, orphans: list[int], signals: tuple[int, ...]) -> None:
        """Send signals to all that is of a job.

        A number may pass to a stranger as soon as its process was waited for. So only two kinds
        of numbers are used: of the guard's own children, which nobody else waits for, and of the
        groups that they are in; all others through a pidfd that was seen to be in the tree.
        """
        roots = [*orphans, job.pid] if job.running else orphans
        members = [(child, root) for root in roots for child in self.offspring(root)]
        groups = set()
        for root in roots:
            group = os.getpgid(root)
            if group in groups:  # once is enough: a second SIGTERM often means "at once"
                continue
            try:
                for number in signals:
                    os.killpg(group, number)
                groups.add(group)
            except PermissionError:  # another user's: it cannot be ended from here
                if root != job.pid:
                    self.owners[root] = NOBODY
        while members:
            pid, parent = members.pop()
            members += [(child, pid) for child in self.offspring(pid)]
            self.signal_member(pid, parent, groups, signals)

    def signal_member(
        self, pid: int, parent: int, groups: set[int], signals: tuple[int, ...]
    ) -> None:
        """Send signals to a descendant of a child, unless its group has got them."""
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return
        try:
            stat = stat_of(pid)  # of the process behind `fd`, or that has ended
            if stat and int(stat[1]) in (parent, self.pid) and int(stat[2]) not in groups:
                for number in signals:
                    _signal.pidfd_send_signal(fd, number)
        except OSError:
            pass  # it has ended, or is another user's
        finally:
            os.close(fd)

    def orphans(self) -> dict[int, list[int]]:
        """Return the processes that came to the guard when their parents ended, by job."""
        children = self.children()
        if len(children) == self.running:
            return {}
        found: dict[int, list[int]] = {}
        for pid in children:
            job = self.leaders.get(pid)
            if job is None or not job.running:
                found.setdefault(self.owner(pid), []).append(pid)
        return found

    def owner(self, pid: int) -> int:
        """Return the number of the job whose an orphan is, NOBODY, or UNSURE for now."""
        number = self.owners.get(pid)
        if number is None:
            number = self.find_owner(pid)
            if number == UNSURE:
                looks = self.unsure[pid] = self.unsure.get(pid, 0) + 1
                if looks < (EXITING_LOOKS if is_exiting(pid) else UNSURE_LOOKS):
                    return UNSURE
                number = NOBODY
            self.unsure.pop(pid, None)
            self.owners[pid] = number
        return number

    def find_owner(self, pid: int) -> int:
        """Return whose an orphan is, by its session, else by the marks that it started with."""
        job = self.leaders.get(os.getsid(pid))
        if job is not None:
            return job.number
        marks = marks_of(pid)
        if marks is None:
            return UNSURE
        # A job that runs a host of its own: what that one starts is of the job as well.
        enclosing = marks.get(b"HODEI_OUTER_JOBS", b"").split(b":")
        if marks.get(b"HODEI_HOST") == self.host_id:
            enclosing.append(marks.get(b"HODEI_JOB_ID", b""))
        for number, candidate in self.jobs.items():
            if candidate.id and candidate.id in enclosing:
                return number
        return NOBODY

    def children(self) -> list[int]:
        """Return the guard's own children that were not waited for."""
        if self.children_file < 0:
            return children_by_scan(self.pid)
        data = os.pread(self.children_file, 65536, 0)
        while more := len(data) > 2048 and os.pread(self.children_file, 65536, len(data)):
            data += more
        return [int(pid) for pid in data.split()]

    def offspring(self, pid: int) -> list[int]:
        """Return the children of another process; some may be missing while they change."""
        return children_of(pid) if self.children_file >= 0 else children_by_scan(pid)

    def end_all(self) -> None:
        """Kill every job and all that came to the guard; return when no process is left."""
        barred: set[int] = set()
        while children := [pid for pid in self.children() if pid not in barred]:
            for pid in children:
                try:
                    group = os.getpgid(pid)
                    if group != os.getpgrp():
                        os.killpg(group, _signal.SIGKILL)
                    os.kill(pid, _signal.SIGKILL)
                except ProcessLookupError:
                    pass
                except PermissionError:  # another user's
                    barred.add(pid)
            if barred.issuperset(children):
                return
            os.wait4(-1, 0)
            while True:
                try:
                    if os.wait4(-1, os.WNOHANG)[0] == 0:
                        break
                except ChildProcessError:
                    return


def boot_time() -> float:
    """Return the seconds since the boot, also those that the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def environment(pairs: list[bytes]) -> dict[bytes, bytes]:
    """Return the variables that NAME=VALUE texts give."""
    return {name: value for name, _, value in (pair.partition(b"=") for pair in pairs)}


def close_all(fds: list[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)
    fds.clear()


def open_child_exits() -> int:
    """Return a descriptor that is readable once a child has ended; SIGCHLD must be blocked."""
    import ctypes  # the sweep of the host, which uses what is above, does without

    libc = ctypes.CDLL(None, use_errno=True)
    signals = ctypes.create_string_buffer(128)
    libc.sigemptyset(signals)
    libc.sigaddset(signals, int(_signal.SIGCHLD))
    fd: int = libc.signalfd(-1, signals, os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0 or libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


def prepare() -> None:
    """Shed what came with the start: descriptors, the host's directory, core files."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > SOCKET:
            try:  # noqa: SIM105 - contextlib takes longer to load than all the rest
                os.close(int(name))
            except OSError:
                pass  # the listing's own
    os.set_inheritable(SOCKET, False)
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Serve the host whose pid is the first argument."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, ALL_SIGNALS)
    prepare()
    host_pid, *more = sys.argv[1:]
    journal = Journal(os.fsencode(more[0]), os.fsencode(more[1])) if more else None
    guard = Guard(int(host_pid), journal)
    try:
        guard.serve()
    finally:  # an error is shown by the interpreter, on a stderr that the host reads
        for _ in range(100):
            try:
                guard.end_all()
                if journal is not None:
                    journal.append(b"ended\n")
                break
            except (OSError, MemoryError):  # what is scarce comes back as jobs end
                time.sleep(TICK)


if __name__ == "__main__":
    main()
