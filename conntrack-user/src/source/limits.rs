//! Limits of this process.

/// What C libraries name limits with.
#[cfg(target_env = "musl")]
type Resource = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Resource = libc::__rlimit_resource_t;

/// Raises the soft limit of `resource` as far as it goes. Where that is not far enough, what needs it
/// fails and says so.
pub(crate) fn raise(resource: Resource) {
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: each call reads or writes the one structure it is given.
    unsafe {
        // Root may raise the hard limit as well; others get as far as that.
        if libc::setrlimit(resource, &raw const all) < 0
            && libc::getrlimit(resource, &raw mut limit) == 0
        {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(resource, &raw const limit);
        }
    }
}
