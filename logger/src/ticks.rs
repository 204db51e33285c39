//! The processor's time stamp counter: the cheapest clock there is, and the only file of this crate with unsafe code.
#![allow(unsafe_code)]

/// Whether the kernel itself keeps time by this counter: it runs evenly, at one rate, the same on all cores.
#[cfg(target_arch = "x86_64")]
pub(crate) fn is_steady() -> bool {
    std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        .is_ok_and(|name| name.trim() == "tsc")
}

/// The counter now.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn now() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 processor, reads no memory, and is refused only where the kernel set
    // CR4.TSD, which Linux does by `prctl(PR_SET_TSC)` alone; a process that asks for that gets its SIGSEGV.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Other processors take the system's clock.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn is_steady() -> bool {
    false
}

/// Never called where [`is_steady`] is false.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn now() -> u64 {
    0
}
