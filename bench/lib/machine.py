# SPDX-License-Identifier: Apache-2.0
"""
The machine that a benchmark runs on: processes and the CPU time of each side, the page cache, file
systems, congestion control, packages. Knows nothing of what is compared. Whatever it changes it changes
back: every context here undoes itself, also after an error or Ctrl-C.
"""

import contextlib
import ctypes
import errno
import fcntl
import filecmp
import json
import mmap
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KIB, MIB = 1 << 10, 1 << 20
SIDES = ("sender", "receiver")
CONGESTION = "/proc/sys/net/ipv4/tcp_congestion_control"
ALLOWED = "/proc/sys/net/ipv4/tcp_allowed_congestion_control"
POLICY = "/usr/sbin/policy-rc.d"
PR_SET_CHILD_SUBREAPER = 36

LIBC = ctypes.CDLL(None, use_errno=True)


class TrialError(Exception):
    """One trial gave no figure; the text says why."""


class NotHere(TrialError):
    """What was asked for cannot be had on this machine."""


class WrongFile(TrialError):
    """Something arrived, but not what was sent."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def read_text(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def is_root():
    return os.geteuid() == 0


def signals_end_the_run():
    """Whatever ends the run unwinds the stack, once, so that everything is put back."""
    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(number, _frame):
        for one in ending:
            signal.signal(one, signal.SIG_IGN)  # unwinding must not be interrupted
        raise SystemExit(128 + number)

    for number in ending:
        signal.signal(number, end)


# ---------------------------------------------------------------------- builds and packages


def build():
    """A release of this tree in build/bench, as far as it is needed; returns its directory."""
    directory = os.path.join(TOP, "build", "bench")
    if not os.path.exists(os.path.join(directory, "build.ninja")):
        subprocess.run(["meson", "setup", directory, TOP, "--buildtype=release", "-Dtests=false"],
                       check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", directory, "bench/trial", "bench/canary", "tools/zerohaul"], check=True,
                   stdout=subprocess.DEVNULL)
    return directory


def find_program(name):
    """Daemons are in directories that are not in everybody's PATH."""
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
    return shutil.which(name, path=path)


@contextlib.contextmanager
def no_service_starts():
    """Packages that bring a daemon start it, unless this script says no. One that was there comes back."""
    aside = POLICY + ".zerohaul-bench"
    refuses = os.access(POLICY, os.X_OK) and subprocess.run(
        [POLICY, "zerohaul-bench", "start"], check=False, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL).returncode == 101
    if refuses:
        yield
        return
    had = os.path.lexists(POLICY)
    if had:
        os.rename(POLICY, aside)
    try:
        with open(POLICY, "w", encoding="ascii") as file:
            file.write("#!/bin/sh\nexit 101\n")
        os.chmod(POLICY, 0o755)
        yield
    finally:
        if had:
            os.rename(aside, POLICY)
        else:
            os.unlink(POLICY)


def install(packages):
    """Installs Debian packages without starting what they bring. False: it did not work, and says why."""
    if not is_root():
        say("bench: installing needs root: apt-get install --no-install-recommends " + " ".join(packages))
        return False
    say("installing: " + " ".join(packages))
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    with no_service_starts():
        for command in (["apt-get", "update", "-qq"],
                        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]):
            done = subprocess.run(command, env=environment, check=False, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            if done.returncode != 0:
                say(f"bench: {' '.join(command[:2])}: {done.stderr.decode(errors='replace').strip()}")
                return False
    return True


# ---------------------------------------------------------------------- processes and their CPU time


class Accounts:
    """
    The CPU time of the sending and of the receiving side, whatever processes they start: by a cgroup for
    each side where one can be made, else by what wait4 says about each process tree.
    """

    def __init__(self):
        self.directory = {}
        self.counter = None
        self.method = "wait4 of each process tree; start and end of listeners are inside"
        self.waited = dict.fromkeys(SIDES, 0.0)

    def __enter__(self):
        """Without groups whoever outlives its daemon becomes a child of ours, to be waited for."""
        for parent, counter, method in self._parents():
            try:
                for side in SIDES:
                    path = os.path.join(parent, f"zerohaul-bench.{os.getpid()}.{side}")
                    os.mkdir(path)
                    self.directory[side] = path
                    read_text(os.path.join(path, counter))
                self.counter, self.method = counter, method
                break
            except OSError:
                self._remove()
        else:
            LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        return self

    def __exit__(self, *_):
        self._remove()

    @staticmethod
    def _parents():
        mounts = [line.split() for line in read_text("/proc/mounts").splitlines()]
        for _, path, kind, options, *_ in mounts:
            if kind == "cgroup2":
                yield path, "cpu.stat", "cgroup v2 (cpu.stat), one group for each side"
        for _, path, kind, options, *_ in mounts:
            if kind == "cgroup" and "cpuacct" in options.split(","):
                yield path, "cpuacct.usage", "cgroup v1 (cpuacct.usage), one group for each side"

    def _remove(self):
        for side, path in self.directory.items():
            self.end_all(side)
            for _ in range(100):
                try:
                    os.rmdir(path)
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)  # a process that has ended leaves its group a little later
        self.directory = {}

    def enter(self, side):
        """For a child of ours, before it becomes the program: it belongs to this side."""
        if self.counter:
            with open(os.path.join(self.directory[side], "cgroup.procs"), "w", encoding="ascii") as file:
                file.write(str(os.getpid()))

    def members(self, side):
        if side not in self.directory:
            return []
        try:
            return [int(word) for word in
                    read_text(os.path.join(self.directory[side], "cgroup.procs")).split()]
        except OSError:
            return []

    def end_orphans(self, side):
        """Waits for what a daemon of this side has left behind; every process of ours has been waited for."""
        own = f"/proc/self/task/{os.getpid()}/children"
        for turn in range(100):
            children = [int(word) for word in read_text(own).split()]
            if not children:
                return
            for pid in children:
                if turn >= 50:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    done, _, usage = os.wait4(pid, os.WNOHANG)
                    if done:
                        self.waited[side] += usage.ru_utime + usage.ru_stime
            time.sleep(0.01)

    def end_all(self, side):
        """Ends what programs of this side have left behind."""
        for _ in range(50):
            members = self.members(side)
            if not members:
                return
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def counter_file(self, side):
        """Where the kernel counts this side; only if there is a counter."""
        return os.path.join(self.directory[side], self.counter)

    def used(self, side, counter_file=None):
        """CPU seconds so far, or those of a copy of the counter's file that was made before."""
        if not self.counter:
            return self.waited[side]
        text = read_text(counter_file or self.counter_file(side))
        if self.counter == "cpuacct.usage":
            return int(text) * 1e-9
        return int(dict(line.split() for line in text.splitlines())["usage_usec"]) * 1e-6


def last_line(log):
    """What a program said last, as the end of a message; empty if there is nothing."""
    try:
        lines = [line for line in read_text(log).splitlines() if line.strip()]
    except (OSError, TypeError):
        return ""
    return ": " + lines[-1][:200] if lines else ""


class Process:
    """A program of one side, in a session of its own, pinned to the CPU of its side if there is one."""

    def __init__(self, argv, side, accounts, cpu=None, stdin=None, stdout=None, log=None):
        self.name = os.path.basename(argv[0])
        self.side = side
        self.accounts = accounts
        self.status = None
        opened = []

        def file_for(path, flags, otherwise):
            if path is None:
                return otherwise
            opened.append(os.open(path, flags | os.O_CLOEXEC, 0o644))
            return opened[-1]

        def before():
            accounts.enter(side)
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)

        self.log = log
        try:
            self.popen = subprocess.Popen(
                argv, start_new_session=True, preexec_fn=before,
                stdin=file_for(stdin, os.O_RDONLY, subprocess.DEVNULL),
                stdout=file_for(stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, subprocess.DEVNULL),
                stderr=file_for(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, subprocess.DEVNULL))
        finally:
            for fd in opened:
                os.close(fd)
        self.pidfd = os.pidfd_open(self.popen.pid)

    def wait(self, seconds):
        """Its exit status, or None when it still runs after that time."""
        if self.status is None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            if not poll.poll(max(0, seconds * 1000)):
                return None
            _, status, usage = os.wait4(self.popen.pid, 0)
            os.close(self.pidfd)
            self.status = self.popen.returncode = os.waitstatus_to_exitcode(status)
            self.accounts.waited[self.side] += usage.ru_utime + usage.ru_stime
        return self.status

    def succeed(self, seconds):
        status = self.wait(seconds)
        if status is None:
            raise TrialError(f"{self.name} did not end within {seconds:.0f} s")
        if status != 0:
            raise TrialError(f"{self.name} ended with {status}{self.last_words()}")

    def last_words(self):
        return last_line(self.log)

    def stop(self):
        """Asks it to end, and ends it when it does not listen. Its session holds nobody else."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.status is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.popen.pid, number)
                self.wait(3)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    """Whether somebody listens there. Asked of the kernel: a connection would be the listener's only one."""
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in read_text(path).splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    return True
    return False


def wait_for_listener(process, port, seconds=15):
    end = time.monotonic() + seconds
    while not listens(port):
        status = process.wait(0)
        # A daemon may put itself into the background; then its listener comes a little later.
        if status not in (None, 0) or time.monotonic() > end:
            raise TrialError(f"{process.name} does not listen{process.last_words()}")
        time.sleep(0.005)


# ---------------------------------------------------------------------- files and the page cache


def make_file(path, size, generator):
    """No two blocks are equal, so that exchanged ones are noticed; content follows from the seed."""
    block = generator.randbytes(min(size, MIB))
    with open(path, "wb") as file:
        for at in range(0, size, MIB):
            head = generator.randbytes(16)
            file.write((head + block[16:])[:min(MIB, size - at)])
        file.flush()
        os.fsync(file.fileno())
    os.chmod(path, 0o644)


def make_tree(path, files, size_of, generator):
    """A directory of that many files, a hundred in each directory of it; size_of: number -> bytes, at random."""
    for number in range(files):
        directory = os.path.join(path, f"{number // 100:04}")
        if number % 100 == 0:
            os.makedirs(directory)
        with open(os.path.join(directory, f"{number:06}"), "wb") as file:
            file.write(generator.randbytes(size_of(number)))
    for directory, _, _ in os.walk(path):
        os.chmod(directory, 0o755)
    sync_file_system(path)


def files_of(path):
    """The file, or all regular files of the directory, as paths relative to it."""
    if not os.path.isdir(path):
        return [""]
    return [os.path.relpath(os.path.join(directory, name), path)
            for directory, _, names in os.walk(path) for name in names
            if not os.path.islink(os.path.join(directory, name))]


class _Range(ctypes.Structure):
    _fields_ = [("offset", ctypes.c_uint64), ("length", ctypes.c_uint64)]


class _CacheStat(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in
                ("cached", "dirty", "writeback", "evicted", "recently_evicted")]


CACHESTAT = 451  # the same number on every architecture


def resident(path):
    """The share of a file's pages that is in the page cache: by cachestat, else by mincore."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        pages = -(-size // mmap.PAGESIZE)
        if pages == 0:
            return 1.0
        stat = _CacheStat()
        if LIBC.syscall(CACHESTAT, fd, ctypes.byref(_Range(0, 0)), ctypes.byref(stat), 0) == 0:
            return stat.cached / pages
        LIBC.mmap.restype = ctypes.c_void_p
        LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                              ctypes.c_int, ctypes.c_long]
        address = LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            raise TrialError(f"mmap of {path} failed")
        vector = (ctypes.c_ubyte * pages)()
        failed = LIBC.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), vector)
        LIBC.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
        if failed:
            raise TrialError(f"mincore of {path} failed")
        return sum(byte & 1 for byte in bytes(vector)) / pages
    finally:
        os.close(fd)


def data_ranges(path):
    """[(start, end)] of what is not hole."""
    found, at = [], 0
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but hole from here on
                    break
                raise
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, at))
    return found


def is_sparse(path):
    status = os.stat(path)
    return status.st_blocks * 512 < status.st_size


def warm(path):
    """Has all data of the file in the page cache, and proves it; holes stay out of it."""
    size = os.path.getsize(path)
    ranges = data_ranges(path) if is_sparse(path) else [(0, size)]
    share = sum(end - start for start, end in ranges) / size if size else 1.0
    for _ in range(3):
        if resident(path) >= 0.999 * share:
            return
        with open(path, "rb", buffering=0) as file:
            for start, end in ranges:
                file.seek(start)
                while start < end and (got := len(file.read(min(4 * MIB, end - start)))):
                    start += got
    raise TrialError(f"{path} does not stay in the page cache")


def settle_network():
    """
    Has every CPU free what it still holds of packets that were sent. Linux frees the last ones on the CPU
    that made them, when that next receives something; until then pages of a file that was sent in place
    stay pinned, and no advice removes them from the page cache.
    """
    before = os.sched_getaffinity(0)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind(("127.0.0.1", 0))
            one.settimeout(1)
            for cpu in before:
                os.sched_setaffinity(0, {cpu})
                for _ in range(4):
                    one.sendto(b"x", one.getsockname())
                    one.recv(1)
    except OSError:
        pass
    finally:
        os.sched_setaffinity(0, before)


def cool(path):
    """Has nothing of the file in the page cache, and proves it. All caches are dropped only if it must be."""
    for attempt in range(6):
        if attempt:
            settle_network()
            time.sleep(0.02 * attempt)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
        if resident(path) <= 0.001:
            return
        if attempt >= 3 and is_root():
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
                file.write("1")
    raise TrialError(f"{path} does not leave the page cache")


def sync_file_system(directory):
    subprocess.run(["sync", "-f", directory], check=True)


def same(one, other):
    """Whether two files have the same bytes, or two directories the same files with the same bytes."""
    if os.path.isdir(one):
        names = files_of(one)
        return set(names) == set(files_of(other)) and all(
            filecmp.cmp(os.path.join(one, name), os.path.join(other, name), shallow=False) for name in names)
    if not os.path.isfile(other):
        return False
    if is_sparse(one):
        return same_data(one, other)
    return subprocess.run(["cmp", "-s", one, other], check=False).returncode == 0


def attributes_of(top):
    """{path relative to top: what it is, its mode, its time, the text of a link}, without following any."""
    found = {}
    for directory, inside, names in os.walk(top):
        for name in [".", *inside, *names] if directory == top else [*inside, *names]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            found[os.path.relpath(path, top)] = (status.st_mode, status.st_mtime_ns,
                                                 os.readlink(path) if os.path.islink(path) else None)
    return found


def same_data(one, other):
    """As same, of files with holes: reads what is data in one of them, for the rest is zeros in both."""
    if os.path.getsize(one) != os.path.getsize(other):
        return False
    with open(one, "rb") as file, open(other, "rb") as copy:
        for start, end in data_ranges(one) + data_ranges(other):
            for at in range(start, end, MIB):
                size = min(MIB, end - at)
                if os.pread(file.fileno(), size, at) != os.pread(copy.fileno(), size, at):
                    return False
    return True


def file_system_of(path):
    """Type of the file system, as the mount table has it."""
    found = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, check=True)
    kind = found.stdout.decode().strip()
    if kind == "ext2/ext3":  # ext4 has the same magic number
        device = os.stat(path).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in read_text("/proc/self/mountinfo").splitlines():
            fields = line.split()
            if fields[2] == wanted:
                return fields[fields.index("-") + 1]
    return kind


def memory_directory(stack, needed_bytes, name=None):
    """A directory on tmpfs with that much room, or None."""
    if not os.path.isdir("/dev/shm") or file_system_of("/dev/shm") != "tmpfs":
        return None
    if shutil.disk_usage("/dev/shm").free < needed_bytes:
        return None
    return temporary_directory(stack, "/dev/shm", name)


def temporary_directory(stack, parent, name=None):
    """
    Others may look into it: some peers serve as nobody. By a name it is the one that a run of that name
    has left behind when it was killed.
    """
    if name is None:
        path = tempfile.mkdtemp(prefix=f"zerohaul-bench.{os.getpid()}.", dir=parent)
    else:
        path = os.path.join(parent, f"zerohaul-bench.{name}")
        os.makedirs(path, exist_ok=True)
    stack.callback(shutil.rmtree, path, ignore_errors=True)
    os.chmod(path, 0o755)
    return path


def loop_mount(stack, base, kind, size, options=()):
    """
    A fresh file system of its own on a loop device; its directory, or None with the reason said. options: of
    mkfs.
    """
    if not is_root():
        say(f"left out: {kind} on a loop device needs root")
        return None
    make = {"ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"],
            "xfs": ["mkfs.xfs", "-q", "-f", "-K"]}[kind]
    program = find_program(make[0])
    if not program:
        say(f"left out: {kind}, there is no {make[0]}")
        return None
    image = os.path.join(base, kind + ".image")
    directory = os.path.join(base, kind)
    with contextlib.ExitStack() as inner:
        try:
            with open(image, "wb") as file:
                inner.callback(os.unlink, image)
                os.posix_fallocate(file.fileno(), 0, size)
            subprocess.run([program, *make[1:], *options, image], check=True, capture_output=True)
            # With direct I/O the image has no second copy in the page cache, which would be warm.
            device = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", image],
                                    check=True, capture_output=True).stdout.decode().strip()
            inner.callback(subprocess.run, ["losetup", "-d", device], check=False)
            os.mkdir(directory)
            inner.callback(os.rmdir, directory)
            subprocess.run(["mount", "-t", kind, device, directory], check=True, capture_output=True)
            inner.callback(subprocess.run, ["umount", directory], check=False)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or b""
            say(f"left out: {kind} on a loop device: {error} {said.decode(errors='replace').strip()}")
            return None
        stack.push(inner.pop_all())
    return directory


# ---------------------------------------------------------------------- the network


@contextlib.contextmanager
def congestion_control(needed):
    """
    The same congestion control for everybody: cubic. Programs that cannot be told get it from the
    system's default, which is changed for the run and put back; needed says whether there are any.
    Yields its name: without root it is the default as it is.
    """
    before = read_text(CONGESTION).strip()
    if not needed:
        can_ask = is_root() or "cubic" in read_text(ALLOWED).split()
        yield "cubic" if can_ask else before
        return
    if not is_root():
        yield before
        return
    # Two runs at once would put back what the other one had set.
    lock = open(os.path.join("/run/lock" if os.path.isdir("/run/lock") else "/run",
                             "zerohaul-bench.lock"), "w", encoding="ascii")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another run on this machine to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        before = read_text(CONGESTION).strip()
        try:
            with open(CONGESTION, "w", encoding="ascii") as file:
                file.write("cubic")
            yield "cubic"
        finally:
            with open(CONGESTION, "w", encoding="ascii") as file:
                file.write(before)


# ---------------------------------------------------------------------- the record of the machine


def versions(packages):
    """package -> version, of those that Debian's tools know to be installed."""
    found = {}
    with contextlib.suppress(OSError):
        shown = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version} ${Status}\n", *packages],
                               capture_output=True, check=False).stdout.decode()
        for line in shown.splitlines():
            name, version, *status = line.split()
            if status[-1:] == ["installed"]:
                found[name] = version
    return found


def describe(congestion, accounts):
    cpu = next((line.split(":", 1)[1].strip() for line in read_text("/proc/cpuinfo").splitlines()
                if line.startswith("model name")), os.uname().machine)
    commit = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty", "--abbrev=12"],
                            capture_output=True, check=False)
    return {
        "commit": commit.stdout.decode().strip() or None,
        "kernel": os.uname().release,
        "cpu": cpu,
        "cpus": len(os.sched_getaffinity(0)),
        "congestion": congestion,
        "cpu_time_by": accounts.method,
        "max_open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def two_cpus():
    """One for each side, or the same one twice."""
    cpus = sorted(os.sched_getaffinity(0))
    return {"sender": cpus[0], "receiver": cpus[1 % len(cpus)]}


def run_trial(words, seconds):
    """What the program trial says, also of a trial that failed."""
    try:
        done = subprocess.run(words, capture_output=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise TrialError(f"trial did not end within {seconds:.0f} s") from None
    if done.returncode not in (0, 1):
        said = done.stderr.decode(errors="replace").strip()
        raise TrialError(f"trial ended with {done.returncode}: {said[-200:]}")
    return json_of(done.stdout, "trial")


def json_of(process_output, what):
    try:
        return json.loads(process_output)
    except ValueError as error:
        raise TrialError(f"{what} did not print JSON: {error}") from None
