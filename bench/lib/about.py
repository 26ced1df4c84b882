# SPDX-License-Identifier: Apache-2.0
"""machine.json: where a run was made. What cannot be told is null."""

import contextlib
import hashlib
import json
import os
import platform
import resource
import subprocess

import machine

SYSCTLS = ["tcp_congestion_control", "tcp_wmem", "tcp_rmem", "tcp_autocorking", "tcp_no_metrics_save",
           "tcp_timestamps", "tcp_sack", "tcp_min_tso_segs", "tcp_limit_output_bytes", "tcp_mem"]
CORE_SYSCTLS = ["wmem_max", "rmem_max", "wmem_default", "rmem_default", "default_qdisc", "optmem_max",
                "busy_poll"]
PACKAGES = ["libc6", "liburing2", "libxxhash0", "libssl3", "libbenchmark1debian", "gcc", "meson"]
# Of the kernel's command line: what changes how fast it is. The rest is nobody's business.
PARAMETERS = {"mitigations", "isolcpus", "nohz_full", "rcu_nocbs", "idle", "processor.max_cstate",
              "intel_idle.max_cstate", "intel_pstate", "amd_pstate", "nosmt", "preempt",
              "transparent_hugepage", "hugepages", "hugepagesz", "psi", "numa_balancing", "init_on_alloc"}
TUNERS = {"bpftune", "tuned", "irqbalance", "thermald", "power-profiles-daemon"}


def told(path):
    """The text of a file of the kernel, or None."""
    try:
        return machine.read_text(path).strip() or None
    except OSError:
        return None


def output(*words):
    try:
        done = subprocess.run(words, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout.decode(errors="replace").strip() or None if done.returncode == 0 else None


def parameters():
    words = [word for word in (told("/proc/cmdline") or "").split() if word.split("=")[0] in PARAMETERS]
    return " ".join(words) or None


def commit():
    """(commit, whether the tree has changes that are not in it). Runs that lie in results change nothing."""
    head = output("git", "-C", machine.TOP, "rev-parse", "HEAD")
    return head, bool(output("git", "-C", machine.TOP, "status", "--porcelain", "--", ":/", ":!/results"))


def host_hash():
    return hashlib.sha256(platform.node().encode()).hexdigest()[:12]


def caches():
    """Of the first CPU: "L2 Unified" -> "512K"."""
    found = {}
    base = "/sys/devices/system/cpu/cpu0/cache"
    for entry in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        level, kind, size = (told(os.path.join(base, entry, name)) for name in ("level", "type", "size"))
        if level and kind and size:
            found[f"L{level} {kind}"] = size
    return found


def cpu(used):
    lines = machine.read_text("/proc/cpuinfo").splitlines()
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    return {"model": fields.get("model name", os.uname().machine), "online": os.cpu_count(), "used": used,
            "caches": caches(), "flags": fields.get("flags", "").split()}


def hypervisor():
    """"none": systemd-detect-virt looked and found no virtual machine; null: nobody looked."""
    try:
        done = subprocess.run(["systemd-detect-virt", "--vm"], capture_output=True, check=False)
    except OSError:
        return told("/sys/class/dmi/id/sys_vendor")
    return done.stdout.decode().strip() or None


def ticks_per_second():
    """Of the kernel, from its configuration; what user space is told is always 100."""
    for path in (f"/boot/config-{os.uname().release}", "/proc/config.gz"):
        text = output("zgrep", "^CONFIG_HZ=", path) if os.path.exists(path) else None
        if text:
            return int(text.split("=")[1])
    return None


def network():
    offloads = {}
    for line in (output("ethtool", "-k", "lo") or "").splitlines()[1:]:
        if not line.startswith("\t") and ":" in line:
            name, value = line.split(":", 1)
            offloads[name.strip()] = value.strip()
    sysctls = {name: told("/proc/sys/net/ipv4/" + name) for name in SYSCTLS}
    sysctls.update({"core." + name: told("/proc/sys/net/core/" + name) for name in CORE_SYSCTLS})
    return {"path": "lo", "mtu": int(told("/sys/class/net/lo/mtu") or 0),
            "qdisc": output("tc", "qdisc", "show", "dev", "lo"), "offloads": offloads,
            "sysctl": {name: value for name, value in sysctls.items() if value is not None}}


def limits():
    def number(limit):
        return None if limit == resource.RLIM_INFINITY else limit

    return {"memlock_bytes": number(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]),
            "open_files": number(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
            "pipe_max_bytes": int(told("/proc/sys/fs/pipe-max-size") or 0) or None}


def file_system(path):
    """The mount that a path is on: the longest one that leads to it."""
    best = ("", "?", "?", "?")
    real = os.path.realpath(path)
    for line in machine.read_text("/proc/mounts").splitlines():
        device, where, kind, options = line.split()[:4]
        if (real + "/").startswith(where.rstrip("/") + "/") and len(where) >= len(best[0]):
            best = (where, kind, options, device)
    return {"kind": best[1], "options": best[2], "device": best[3]}


def build_record(build):
    """(version, compiler, options that are not the defaults of nobody)."""
    def asked(*words):
        return json.loads(output("meson", "introspect", *words, build) or "null")

    project, compilers, options = asked("--projectinfo"), asked("--compilers"), asked("--buildoptions")
    one = (((compilers or {}).get("host") or {}).get("c") or {})
    chosen = {"buildtype", "optimization", "debug", "c_args", "b_ndebug", "b_lto"}
    return ((project or {}).get("version", "unknown"),
            (one.get("full_version") or output("cc", "--version") or "unknown").splitlines()[0],
            {option["name"]: str(option["value"]) for option in options or [] if option["name"] in chosen})


def strategies(build):
    shown = output(os.path.join(build, "tools", "zerohaul"), "probe", "--json")
    rows = json.loads(shown)["strategies"] if shown else []
    return [{"name": row["name"], "side": row["side"], "summary": row["summary"],
             "user_copies": row["user_copies"], "total_copies": row["total_copies"]} for row in rows]


def running_tuners():
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                found.add(machine.read_text(f"/proc/{entry}/comm").strip())
    return sorted(found & TUNERS)


def describe(run, recorded, build, directories, canaries):
    """directories: what -> a path on the file system that serves as that."""
    head, dirty = commit()
    version, compiler, options = build_record(build)
    release = told("/etc/os-release") or ""
    pretty = [line.split("=", 1)[1].strip('"') for line in release.splitlines()
              if line.startswith("PRETTY_NAME=")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "schema": "zerohaul.machine/1", "run": run, "recorded_utc": recorded, "host_hash": host_hash(),
        "commit": head, "dirty": dirty, "version": version,
        "kernel": os.uname().release, "kernel_build": os.uname().version, "cmdline": parameters(),
        "distribution": pretty[0] if pretty else None,
        "cpu": cpu(list(machine.two_cpus().values())), "memory_bytes": pages, "hypervisor": hypervisor(),
        "clocksource": told("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "hz": ticks_per_second(), "root": machine.is_root(), "network": network(), "limits": limits(),
        "file_systems": {what: file_system(path) for what, path in directories.items()},
        "compiler": compiler, "build_options": options, "packages": machine.versions(PACKAGES),
        "tuners": running_tuners(), "strategies": strategies(build),
        "ceilings": dict(canaries, disk_read_Bps=None, disk_write_Bps=None),
    }
