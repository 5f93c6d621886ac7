"""The machine code of the thread pool: LLVM IR for the callers' entry and for the workers' loop.

A job is described by plain fields and published by one 64-bit word, the *ticket*::

    bits 0-15   next chunk that nobody has claimed
    bits 16-23  workers that have joined this job
    bits 24-63  number of the job

Whoever claims a chunk swaps the whole word (compare and exchange), so that a claim succeeds only while the job that the
fields were read for is still the current one: a worker that slept through ten jobs can never run a chunk of a job that is
over.  A worker joins and claims its first chunk in one exchange; until it has reported its chunks as done (`pending`) the
caller cannot return, and the fields stay as they are.  Before the fields of another job are written, the ticket says that no
chunk is left.  The ticket's low half is what idle workers sleep on.
"""

from __future__ import annotations

import platform
import sys

# Byte offsets in the shared block.  What different threads write lies on different cache lines.
TICKET, PENDING, WAITING, SLEEPERS, STOP, BUSY = 0, 64, 68, 128, 132, 192
FUNCTION, ARGS, BEGIN, END, CHUNK, CHUNKS, JOINERS, WORKERS, SPINS = (
    256,
    264,
    272,
    280,
    288,
    296,
    304,
    320,
    328,
)
SHARED_BYTES = 384

# The view that callers hold: a pointer to the shared block, and how many threads (callers included) may work for them.
VIEW_SHARED, VIEW_THREADS, VIEW_BYTES = 0, 8, 16

MAX_WORKERS = 255  # the ticket's eight bits
CLOSED = 65535  # as next chunk: more than there ever are
CHUNKS_PER_THREAD = 4  # more than one, so that a thread that the system has put aside holds up less

# futex(2) has no name in libc; its number differs between processors.
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98}
_PAUSE = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": ("declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"),
}


def has_workers() -> bool:
    """Whether threads can sleep on a word here: Linux on a processor whose call number is known.  Else callers work alone."""
    return sys.platform == "linux" and sys.byteorder == "little" and platform.machine() in _FUTEX


def _sleep_and_wake() -> str:
    """@sleep(word, while it holds this value) and @wake(word, at most so many); both do nothing where there are no workers."""
    if not has_workers():
        return """
define internal void @sleep(ptr %word, i32 %value) { ret void }
define internal void @wake(ptr %word, i64 %count) { ret void }
"""
    number = _FUTEX[platform.machine()]
    return f"""
declare i64 @syscall(i64, ...)
define internal void @sleep(ptr %word, i32 %value) noinline {{
  %v = zext i32 %value to i64
  call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 128, i64 %v, ptr null)   ; FUTEX_WAIT_PRIVATE
  ret void
}}
define internal void @wake(ptr %word, i64 %count) noinline {{
  call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 129, i64 %count)         ; FUTEX_WAKE_PRIVATE
  ret void
}}
"""


def _field(name: str, offset: int, kind: str, size: int, order: str = "monotonic") -> str:
    """IR that loads %name from the shared block.  Atomic, as a late worker may look while a caller writes."""
    return (
        f"  %{name}.p = getelementptr i8, ptr %shared, i64 {offset}\n"
        f"  %{name} = load atomic {kind}, ptr %{name}.p {order}, align {size}"
    )


def _put(offset: int, kind: str, value: str, size: int, order: str = "monotonic") -> str:
    name = f"put.{offset}.{value.strip('%')}"
    return (
        f"  %{name} = getelementptr i8, ptr %shared, i64 {offset}\n"
        f"  store atomic {kind} {value}, ptr %{name} {order}, align {size}"
    )


def ir() -> str:
    """The module's text: `parallel_for` and `worker`; `take` and `halt` for whoever starts and stops workers; `spin`."""
    declaration, pause = _PAUSE.get(platform.machine(), ("", ""))
    job = "\n".join(
        (
            _field("f", FUNCTION, "ptr", 8),
            _field("args", ARGS, "ptr", 8),
            _field("begin", BEGIN, "i64", 8),
            _field("end", END, "i64", 8),
            _field("chunk", CHUNK, "i64", 8),
            _field("chunks", CHUNKS, "i64", 8),
        )
    )
    return f"""
{declaration}
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
{_sleep_and_wake()}

; Waits for about `count` turns of an empty loop: how long one turn takes is measured with it.
define void @spin(i64 %count) noinline {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  {pause}
  call void asm sideeffect "", ""()
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %out
out:
  ret void
}}

; Keeps callers from sharing work out (they work alone); says whether this call is the one that does.
define i32 @take(ptr %shared) {{
  %busy = getelementptr i8, ptr %shared, i64 {BUSY}
  %swap = cmpxchg ptr %busy, i32 0, i32 1 acquire monotonic, align 64
  %mine = extractvalue {{ i32, i1 }} %swap, 1
  %answer = zext i1 %mine to i32
  ret i32 %answer
}}

; Sends all workers home.  A new ticket wakes them, which is of no job.
define void @halt(ptr %shared) {{
{_put(CHUNKS, "i64", "0", 8)}
{_put(STOP, "i32", "1", 4, "seq_cst")}
  %old = atomicrmw add ptr %shared, i64 {1 << 24} seq_cst, align 64
  call void @wake(ptr %shared, i64 {MAX_WORKERS})
  ret void
}}

; Runs one chunk of the current job.
define internal void @run(ptr %shared, i64 %index) {{
{job}
  %skip = mul i64 %index, %chunk
  %from = add i64 %begin, %skip
  %past = add i64 %from, %chunk
  %to = call i64 @llvm.smin.i64(i64 %past, i64 %end)
  call void %f(ptr %args, i64 %from, i64 %to)
  ret void
}}

; Claims and runs chunks until none is left; says how many.  For those who are part of the current job: its fields stand still.
define internal i64 @work(ptr %shared) {{
entry:
{_field("chunks", CHUNKS, "i64", 8)}
  br label %look
look:
  %done = phi i64 [ 0, %entry ], [ %done, %claim ], [ %more, %won ]
  %ticket = load atomic i64, ptr %shared acquire, align 64
  %index = and i64 %ticket, 65535
  %left = icmp slt i64 %index, %chunks
  br i1 %left, label %claim, label %out
claim:
  %taken = add i64 %ticket, 1
  %swap = cmpxchg ptr %shared, i64 %ticket, i64 %taken acq_rel monotonic, align 64
  %ok = extractvalue {{ i64, i1 }} %swap, 1
  br i1 %ok, label %won, label %look
won:
  call void @run(ptr %shared, i64 %index)
  %more = add i64 %done, 1
  br label %look
out:
  ret i64 %done
}}

; f(args, from, to) for chunks that together are [begin, end), none of them smaller than `grain` but where there is only one.
define void @parallel_for(ptr %view, ptr %f, ptr %args, i64 %begin, i64 %end, i64 %grain) {{
entry:
  %n = sub i64 %end, %begin
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %plan, label %out
plan:
  %shared = load ptr, ptr %view
  %allowed.p = getelementptr i8, ptr %view, i64 {VIEW_THREADS}
  %allowed = load i64, ptr %allowed.p
{_field("workers", WORKERS, "i64", 8)}
  %all = add i64 %workers, 1
  %threads = call i64 @llvm.smin.i64(i64 %allowed, i64 %all)
  %least = call i64 @llvm.smax.i64(i64 %grain, i64 1)
  %fit = udiv i64 %n, %least
  %most = mul i64 %threads, {CHUNKS_PER_THREAD}
  %wanted = call i64 @llvm.smin.i64(i64 %fit, i64 %most)
  %several = icmp sgt i64 %wanted, 1
  %helpers = icmp sgt i64 %threads, 1
  %share = and i1 %several, %helpers
  br i1 %share, label %lock, label %alone
alone:
  call void %f(ptr %args, i64 %begin, i64 %end)
  br label %out
lock:                                         ; One job at a time: nested calls, and those of other threads meanwhile, work alone.
  %busy = getelementptr i8, ptr %shared, i64 {BUSY}
  %swap = cmpxchg ptr %busy, i32 0, i32 1 acquire monotonic, align 64
  %mine = extractvalue {{ i32, i1 }} %swap, 1
  br i1 %mine, label %publish, label %alone
publish:                                      ; The same number for each thread, where there are more chunks than threads.
  %odd = urem i64 %wanted, %threads
  %even = sub i64 %wanted, %odd
  %plenty = icmp sgt i64 %wanted, %threads
  %count = select i1 %plenty, i64 %even, i64 %wanted
  %n.up = add i64 %n, %count
  %n.up1 = sub i64 %n.up, 1
  %chunk = udiv i64 %n.up1, %count
  %c.up = add i64 %n, %chunk
  %c.up1 = sub i64 %c.up, 1
  %chunks = udiv i64 %c.up1, %chunk
  %chunks32 = trunc i64 %chunks to i32
  %joiners = sub i64 %threads, 1
  ; First nothing of the last job's ticket may look free, however many chunks the fields tell of (`CLOSED`): whoever sees a new
  ; field (release, acquire) fails to exchange the old ticket.
  %before = load atomic i64, ptr %shared monotonic, align 64
  %closed = or i64 %before, {CLOSED}
  store atomic i64 %closed, ptr %shared monotonic, align 64
{_put(FUNCTION, "ptr", "%f", 8)}
{_put(ARGS, "ptr", "%args", 8)}
{_put(BEGIN, "i64", "%begin", 8)}
{_put(END, "i64", "%end", 8)}
{_put(CHUNK, "i64", "%chunk", 8)}
{_put(CHUNKS, "i64", "%chunks", 8, "release")}
{_put(JOINERS, "i64", "%joiners", 8, "release")}
{_put(PENDING, "i32", "%chunks32", 64)}
  %number = lshr i64 %before, 24
  %number1 = add i64 %number, 1
  %ticket = shl i64 %number1, 24
  %old = atomicrmw xchg ptr %shared, i64 %ticket seq_cst, align 64
{_field("sleepers", SLEEPERS, "i32", 64, "seq_cst")}
  %asleep = icmp sgt i32 %sleepers, 0
  br i1 %asleep, label %rouse, label %help
rouse:
  %others = sub i64 %chunks, 1
  %wakes = call i64 @llvm.smin.i64(i64 %others, i64 %joiners)
  call void @wake(ptr %shared, i64 %wakes)
  br label %help
help:
  %done = call i64 @work(ptr %shared)
  %done32 = trunc i64 %done to i32
  %pending = getelementptr i8, ptr %shared, i64 {PENDING}
  %rest = atomicrmw sub ptr %pending, i32 %done32 acq_rel, align 64
  %finished = icmp eq i32 %rest, %done32
{_field("spins", SPINS, "i64", 8)}
  br i1 %finished, label %unlock, label %wait
wait:                                         ; For chunks that workers have claimed, and for nothing else.
  %i = phi i64 [ 0, %help ], [ %i1, %turn ]
  %now = load atomic i32, ptr %pending acquire, align 64
  %gone = icmp eq i32 %now, 0
  br i1 %gone, label %unlock, label %turn
turn:
  {pause}
  %i1 = add i64 %i, 1
  %again = icmp slt i64 %i1, %spins
  br i1 %again, label %wait, label %announce
announce:                                     ; Leaves this core to a worker that the system has put aside.
  %waiting = getelementptr i8, ptr %shared, i64 {WAITING}
  %w0 = atomicrmw xchg ptr %waiting, i32 1 seq_cst, align 4
  br label %doze
doze:
  %still = load atomic i32, ptr %pending seq_cst, align 64
  %over = icmp eq i32 %still, 0
  br i1 %over, label %awake, label %nap
nap:
  call void @sleep(ptr %pending, i32 %still)
  br label %doze
awake:
  store atomic i32 0, ptr %waiting monotonic, align 4
  br label %unlock
unlock:
  store atomic i32 0, ptr %busy release, align 64
  br label %out
out:
  ret void
}}

; A worker's life, in the form that pthread_create takes.
define ptr @worker(ptr %shared) {{
entry:
  br label %look
look:
  %turns = phi i64 [ 0, %entry ], [ 0, %joined ], [ 0, %report ], [ 0, %last ], [ %turns1, %idle ], [ 0, %down ]
  %ticket = load atomic i64, ptr %shared seq_cst, align 64
{_field("stop", STOP, "i32", 4, "seq_cst")}
  %ends = icmp ne i32 %stop, 0
  br i1 %ends, label %out, label %open
open:
{_field("chunks", CHUNKS, "i64", 8, "acquire")}
{_field("joiners", JOINERS, "i64", 8, "acquire")}
  %index = and i64 %ticket, 65535
  %high = lshr i64 %ticket, 16
  %in = and i64 %high, 255
  %left = icmp slt i64 %index, %chunks
  %room = icmp slt i64 %in, %joiners
  %may = and i1 %left, %room
  br i1 %may, label %join, label %rest
join:
  %joining = add i64 %ticket, {(1 << 16) + 1}
  %swap = cmpxchg ptr %shared, i64 %ticket, i64 %joining acq_rel monotonic, align 64
  %ok = extractvalue {{ i64, i1 }} %swap, 1
  br i1 %ok, label %first, label %joined
joined:                                       ; Somebody else was quicker.
  br label %look
first:
  call void @run(ptr %shared, i64 %index)
  %more = call i64 @work(ptr %shared)
  %done = add i64 %more, 1
  %done32 = trunc i64 %done to i32
  %pending = getelementptr i8, ptr %shared, i64 {PENDING}
  %before = atomicrmw sub ptr %pending, i32 %done32 seq_cst, align 64
  %final = icmp eq i32 %before, %done32
  br i1 %final, label %report, label %last
last:
  br label %look
report:                                       ; A caller that is gone by now is woken from whatever it waits for next: harmless.
{_field("waiting", WAITING, "i32", 4, "seq_cst")}
  %sleeps = icmp ne i32 %waiting, 0
  call void @wake.if(i1 %sleeps, ptr %pending)
  br label %look
rest:
{_field("spins", SPINS, "i64", 8)}
  %turns1 = add i64 %turns, 1
  %tired = icmp sgt i64 %turns1, %spins
  br i1 %tired, label %down, label %idle
idle:
  {pause}
  br label %look
down:                                         ; A job that was published since the ticket was read keeps it from sleeping.
  %sleepers = getelementptr i8, ptr %shared, i64 {SLEEPERS}
  %s0 = atomicrmw add ptr %sleepers, i32 1 seq_cst, align 64
  %low = trunc i64 %ticket to i32
  call void @sleep(ptr %shared, i32 %low)
  %s1 = atomicrmw sub ptr %sleepers, i32 1 seq_cst, align 64
  br label %look
out:
  ret ptr null
}}

define internal void @wake.if(i1 %yes, ptr %word) {{
  br i1 %yes, label %call, label %out
call:
  call void @wake(ptr %word, i64 1)
  br label %out
out:
  ret void
}}
"""
