//! Two instructions of the processor, in the only file of this crate with unsafe code: its time stamp counter, the cheapest
//! clock there is, and the prefetch of memory that will be written.
#![allow(unsafe_code)]

/// Whether the kernel itself keeps time by this counter: it runs evenly, at one rate, the same on all cores.
#[cfg(target_arch = "x86_64")]
pub(crate) fn counter_is_steady() -> bool {
    std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        .is_ok_and(|name| name.trim() == "tsc")
}

/// The counter now.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn counter() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 processor, reads no memory, and is refused only where the kernel set
    // CR4.TSD, which Linux does by `prctl(PR_SET_TSC)` alone; a process that asks for that gets its SIGSEGV.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Other processors take the system's clock.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn counter_is_steady() -> bool {
    false
}

/// Never called where [`counter_is_steady`] is false.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn counter() -> u64 {
    0
}

/// Asks for the cache lines of these words, to write to them soon. Words of ranges that follow each other are asked for
/// once a line.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
pub(crate) fn claim<T>(words: &[T]) {
    const LINE: usize = 64;
    for word in words.iter().step_by(LINE / size_of::<T>().clamp(1, LINE)) {
        // SAFETY: PREFETCHW changes neither memory nor flags, and does not fault, whatever the address; processors
        // without it take its encoding for a no-op.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) word, options(nostack, preserves_flags, readonly));
        }
    }
}

/// Other processors fetch them when they are written.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(crate) fn claim<T>(_words: &[T]) {}
