//! stub: replaced by the connect branch
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Unreachable,
    Unauthorized,
    Forbidden,
    NotFound,
    Conflict,
    AlreadyExists,
    Invalid,
    TimedOut,
    Auth,
    Other,
}
#[derive(Clone, Debug)]
pub struct Explained {
    pub cause: Cause,
    pub message: String,
    pub hint: Option<String>,
}
pub fn explain(error: &kube::Error) -> Explained {
    let cause = match error {
        kube::Error::Api(s) if s.is_already_exists() => Cause::AlreadyExists,
        kube::Error::Api(s) if s.is_not_found() => Cause::NotFound,
        kube::Error::Api(s) if s.is_conflict() => Cause::Conflict,
        kube::Error::Api(s) if s.is_forbidden() => Cause::Forbidden,
        _ => Cause::Other,
    };
    Explained {
        cause,
        message: error.to_string(),
        hint: None,
    }
}
