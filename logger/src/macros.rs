//! The macros.

/// Logs a record: `log!([logger: handle,] [target: "name",] level, [key = value, …;] "format", …)`.
///
/// Without `logger:` the [default logger](crate::default) is used, and nothing happens while there is none. Without
/// `target:` the target is the module's path. Arguments are evaluated only if the record passes the gate.
///
/// ```
/// use logger::{Level, log};
///
/// let (name, size) = ("a.bin", 1048576);
/// log!(target: "storage", Level::Info, name = name, size = size; "stored after {} tries", 2);
/// ```
#[macro_export]
macro_rules! log {
    (logger: $logger:expr, target: $target:literal, $level:expr, $($rest:tt)+) => {
        $crate::__log!(Some(&$logger), [$target], $level, $($rest)+)
    };
    (logger: $logger:expr, target: $target:expr, $level:expr, $($rest:tt)+) => {
        $crate::__log!(Some(&$logger), $target, $level, $($rest)+)
    };
    (logger: $logger:expr, $level:expr, $($rest:tt)+) => {
        $crate::__log!(Some(&$logger), [module_path!()], $level, $($rest)+)
    };
    (target: $target:literal, $level:expr, $($rest:tt)+) => {
        $crate::__log!($crate::default(), [$target], $level, $($rest)+)
    };
    (target: $target:expr, $level:expr, $($rest:tt)+) => {
        $crate::__log!($crate::default(), $target, $level, $($rest)+)
    };
    ($level:expr, $($rest:tt)+) => {
        $crate::__log!($crate::default(), [module_path!()], $level, $($rest)+)
    };
}

// A target in brackets is known when the program is compiled, and with it everything about the place but the level.
#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($logger:expr, [$target:expr], $level:expr, $($message:tt)+) => {
        if let Some(logger) = $logger {
            static PLACE: $crate::Place = $crate::Place::new($target, file!(), line!());
            let level = $level;
            if logger.admits(level, PLACE.target()) {
                $crate::__put!(logger, &PLACE, level, $($message)+);
            }
        }
    };
    ($logger:expr, $target:expr, $level:expr, $($key:ident = $value:expr),+ ; $($message:tt)+) => {
        if let Some(logger) = $logger {
            let site = $crate::Site { level: $level, target: $target, file: file!(), line: line!() };
            if logger.admits(site.level, site.target) {
                logger.log(
                    &site,
                    format_args!($($message)+),
                    &[$((stringify!($key), $crate::kv::ToValue::to_value(&$value))),+],
                );
            }
        }
    };
    ($logger:expr, $target:expr, $level:expr, $($message:tt)+) => {
        if let Some(logger) = $logger {
            let site = $crate::Site { level: $level, target: $target, file: file!(), line: line!() };
            if logger.admits(site.level, site.target) {
                logger.log(&site, format_args!($($message)+), &$crate::NO_FIELDS);
            }
        }
    };
}

// For a record that has passed the gate. Text that stands alone in a `"{}"` needs no formatting.
#[doc(hidden)]
#[macro_export]
macro_rules! __put {
    ($logger:ident, $place:expr, $level:expr, "{}", $value:expr $(,)?) => {
        match &$value {
            value => {
                #[allow(unused_imports)]
                use $crate::{NoText as _, Text as _};
                match (&$crate::Single(value)).text() {
                    Some(text) => $logger.put_text($place, $level, text),
                    None => $logger.put($place, $level, format_args!("{}", value), &$crate::NO_FIELDS),
                }
            }
        }
    };
    ($logger:ident, $place:expr, $level:expr, $($key:ident = $value:expr),+ ; $($message:tt)+) => {
        $logger.put(
            $place,
            $level,
            format_args!($($message)+),
            &[$((stringify!($key), $crate::kv::ToValue::to_value(&$value))),+],
        );
    };
    ($logger:ident, $place:expr, $level:expr, $($message:tt)+) => {
        $logger.put($place, $level, format_args!($($message)+), &$crate::NO_FIELDS);
    };
}

macro_rules! at_level {
    ($dollar:tt, $(#[$doc:meta])* $name:ident, $level:ident) => {
        $(#[$doc])*
        #[macro_export]
        macro_rules! $name {
            (logger: $dollar logger:expr, target: $dollar target:literal, $dollar($dollar rest:tt)+) => {
                $crate::__log!(Some(&$dollar logger), [$dollar target], $crate::Level::$level, $dollar($dollar rest)+)
            };
            (logger: $dollar logger:expr, target: $dollar target:expr, $dollar($dollar rest:tt)+) => {
                $crate::__log!(Some(&$dollar logger), $dollar target, $crate::Level::$level, $dollar($dollar rest)+)
            };
            (logger: $dollar logger:expr, $dollar($dollar rest:tt)+) => {
                $crate::__log!(Some(&$dollar logger), [module_path!()], $crate::Level::$level, $dollar($dollar rest)+)
            };
            (target: $dollar target:literal, $dollar($dollar rest:tt)+) => {
                $crate::__log!($crate::default(), [$dollar target], $crate::Level::$level, $dollar($dollar rest)+)
            };
            (target: $dollar target:expr, $dollar($dollar rest:tt)+) => {
                $crate::__log!($crate::default(), $dollar target, $crate::Level::$level, $dollar($dollar rest)+)
            };
            ($dollar($dollar rest:tt)+) => {
                $crate::__log!($crate::default(), [module_path!()], $crate::Level::$level, $dollar($dollar rest)+)
            };
        }
    };
}

at_level!($, /// As [`log!`](crate::log) at [`Level::Trace`](crate::Level::Trace).
    trace, Trace);
at_level!($, /// As [`log!`](crate::log) at [`Level::Debug`](crate::Level::Debug).
    debug, Debug);
at_level!($, /// As [`log!`](crate::log) at [`Level::Info`](crate::Level::Info).
    info, Info);
at_level!($, /// As [`log!`](crate::log) at [`Level::Warn`](crate::Level::Warn).
    warn, Warn);
at_level!($, /// As [`log!`](crate::log) at [`Level::Error`](crate::Level::Error).
    error, Error);
at_level!($, /// As [`log!`](crate::log) at [`Level::Fatal`](crate::Level::Fatal): returns when the record is at the sinks.
    fatal, Fatal);
