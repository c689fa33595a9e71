"""Which part of the work a sample of the CPU clock belongs to."""

import re

#: System calls as the kernel's functions below the entry show them, in the order in which they are looked for.
KERNEL = (
    ("sched_yield", r"sched_yield"),
    ("futex", r"futex"),
    ("write", r"do_writev|sock_write_iter|sys_write|sendto|sendmsg|tcp_sendmsg"),
    ("read", r"vfs_read|ksys_read|sys_read|recvfrom|sock_read_iter|tcp_recvmsg"),
    ("epoll", r"epoll"),
    ("page fault", r"exc_page_fault|asm_exc_page_fault|handle_mm_fault"),
    ("stat", r"newfstatat|vfs_stat|sys_newstat|vfs_statx"),
)
OURS = re.compile(r"libmod_vivarium|lib_vivarium")

#: What a system call is for: (the system call, by us or by somebody else, on which side) -> area.
CALLS = {
    ("sched_yield", True, "httpd"): "waiting for the worker: polling",
    ("sched_yield", True, "Python"): "waiting for work: polling",
    ("write", False, "httpd"): "TCP: writing the answer",
    ("read", False, "httpd"): "TCP: reading the request",
    ("epoll", False, "httpd"): "event MPM: epoll, queue, idle threads",
    ("futex", False, "httpd"): "event MPM: epoll, queue, idle threads",
    ("futex", False, "Python"): "interpreter lock",
}

#: (side, area, what the function's name looks like, what its file's name looks like). The first that fits the innermost
#: frame wins, else the first that fits the next frame outwards.
RULES = tuple(
    (side, name, re.compile(symbol), re.compile(place)) for side, name, symbol, place in (
        ("httpd", "waking the worker", r"ring_anyhow|PoolPage|doorbell|futex::wake", "vivarium"),
        ("httpd", "waiting for the worker: sleeping", r"futex::sleep_on", "vivarium"),
        ("httpd", "waiting for the worker: polling", r"polling::|yield_once|yield_now|Habit|wait_for|poll_and_sleep|HostGuard",
         "vivarium"),
        ("httpd", "module: per-directory configuration", r"config::(dir|edge)|DirConf|merge_dir", "vivarium"),
        ("httpd", "module: ring and lane", r"ring::|lane::|Channel|try_send|Producer|Consumer|shm::|Conversation::(frame|payload)|region::",
         "vivarium"),
        ("httpd", "module: encoding the request", r"fields::|snapshot|grants::view|Request::field|wire::|\bEnter\b|encode|"
         r"apache::table", "vivarium"),
        ("httpd", "module: answer to httpd's filters", r"conversation::body|brigade|ending|buffers::", "vivarium"),
        ("httpd", "module: changes and calls of the worker", r"grants::|calls::|changes|message::", "vivarium"),
        ("httpd", "module: finding pool and handlers", r"pool_key|key_of|link::|tenants::|phases::\w+_of|Key\b", "vivarium"),
        ("httpd", "module: objects of a request", r"tree::|after::|drop_in_place|drop_box|take_lane|begin|level::|apache::pool|"
         r"connections::|Conversation::|conversation::run::", "vivarium"),
        ("httpd", "module: choosing handlers, hooks", r"phases::|hooks::|apache::edge", "vivarium"),
        ("httpd", "Python inside httpd", r"", r"libpython|mod_python|python3"),
        ("httpd", "mod_bench_c", r"", r"mod_bench_c"),
        ("httpd", "core: logging", r"log_transaction|ap_run_log|logio|config_log|ap_log_", ""),
        ("httpd", "core: reading and parsing the request", r"ap_read_request|ap_rgetline|ap_get_mime|read_request_line|"
         r"ap_parse_uri|ap_core_input_filter|ap_http_header_filter_in|check_header", ""),
        ("httpd", "core: location, directory, type, access", r"_walk$|ap_process_request_internal|ap_run_(translate|map_to|"
         r"access|type|fixups|header_parser|post_read|create_request|pre_translate)", ""),
        ("httpd", "core: output filters, headers, date", r"ap_http_header_filter|ap_content_length_filter|ap_core_output_filter|"
         r"ap_pass_brigade|ap_finalize|http_outerror|ap_basic_http_header|old_write|ap_http_chunk|apr_brigade|byterange", ""),
        ("httpd", "core: request pool, end of a request", r"apr_pool_(destroy|clear|create)|ap_process_request_after|"
         r"process_async_request|eor_bucket|check_pipeline", ""),
        ("httpd", "event MPM: epoll, queue, idle threads", r"", r"mod_mpm_event"),
        ("httpd", "event MPM: epoll, queue, idle threads", r"ap_queue|apr_pollset|ap_push_pool|ap_mpm|listener", ""),
        ("Python", "waking httpd's thread", r"futex::wake", "vivarium"),
        ("Python", "waiting for work: sleeping", r"futex::sleep_on|PoolPage.*sleep|doorbell", "vivarium"),
        ("Python", "waiting for work: polling", r"polling::|yield_once|yield_now|Habit|poll_and_sleep|wait_for", "vivarium"),
        ("Python", "ring and lane", r"ring::|lane::|Channel|try_send|Producer|Consumer|shm::|Conversation::(frame|payload)", "vivarium"),
        ("Python", "finding work, claiming", r"seats::|dispatcher|regions::|region::|claim::|gate::|page::|withdraw", "vivarium"),
        ("Python", "answer: write and leave", r"engine::calls::|buffers::|request_io|leave|__pymethod_write__", "vivarium"),
        ("Python", "decoding the request", r"fields::Value|protocol::fields|wire::|message::|decode|protocol::table", "vivarium"),
        ("Python", "request object: attributes and tables", r"types::|pyclass", "vivarium"),
        ("Python", "tree and phase upkeep", r"phases::|tree::|state::|conversation::|special::|converse", "vivarium"),
        ("Python", "finding work, claiming", r"worker_loop", "vivarium"),
        ("Python", "interpreter: handler and the objects it makes", r"", "python3|libpython"),
    )
)


def area(side, frames):
    """The area of one sample: `frames` is [(function, file), ...] from the innermost outwards."""
    kernel = [symbol for symbol, place in frames if "kernel" in place or "guest" in place]
    if kernel:
        users = [frame for frame in frames if "kernel" not in frame[1] and not frame[1].endswith("libc.so.6")
                 and "vdso" not in frame[1]]
        return of_kernel(side, kernel, users)
    return of_user(side, frames)


def of_kernel(side, kernel, users):
    """The area of time that the kernel spent for a process."""
    call = next((name for name, pattern in KERNEL if any(re.search(pattern, symbol) for symbol in kernel)), None)
    ours = bool(users) and bool(OURS.search(users[0][1]))
    if call == "futex" and ours:
        waking = any("futex_wake" in symbol for symbol in kernel)
        other = "the worker" if side == "httpd" else "httpd's thread"
        return f"waking {other}" if waking else f"waiting for {'the worker' if side == 'httpd' else 'work'}: sleeping"
    if (call, ours, side) in CALLS:
        return CALLS[call, ours, side]
    if call == "page fault":
        return "page faults"
    if users:
        # The time of an interrupt or of the way into the kernel and back belongs to whoever was there.
        return of_user(side, users)
    return "kernel: rest"


def of_user(side, frames):
    """The area of time outside the kernel."""
    for symbol, place in frames:
        for owner, name, function, file in RULES:
            if owner == side and function.search(symbol) and file.search(place):
                return name
    return "rest"
