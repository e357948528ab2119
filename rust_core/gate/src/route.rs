//! Where a call goes, by its path. What the gate answers itself comes before a service, one method
//! at a time.

const VALIDATE_SERVICE: &str = "watchword.v1.AuthService";
const VALIDATE_METHOD: &str = "ValidateSession";

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To grpc.aio.
    Upstream,
    /// To the cache first.
    ValidateSession,
    /// Nowhere: no service of this listener.
    Unknown,
}

/// The services of one listener.
#[derive(Debug)]
pub(crate) struct Routes {
    services: Vec<String>,
    checks_sessions: bool,
}

impl Routes {
    /// `checks_sessions`: there is a cache to ask first.
    pub(crate) fn new(services: Vec<String>, checks_sessions: bool) -> Self {
        Self {
            services,
            checks_sessions,
        }
    }

    /// Finds the route of a path, `/package.Service/Method` (gRPC over HTTP/2, "Path").
    pub(crate) fn find(&self, path: &str) -> Route {
        let service = path.strip_prefix('/').and_then(|rest| rest.split_once('/'));
        match service {
            Some((VALIDATE_SERVICE, VALIDATE_METHOD)) if self.checks_sessions => {
                Route::ValidateSession
            }
            Some((service, _)) if self.services.iter().any(|known| known == service) => {
                Route::Upstream
            }
            _ => Route::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_of_services_are_passed_on() {
        let routes = Routes::new(
            vec!["a.v1.Auth".to_owned(), "grpc.health.v1.Health".to_owned()],
            true,
        );
        for path in [
            "/a.v1.Auth/Get",
            "/a.v1.Auth/",
            "/grpc.health.v1.Health/Watch",
        ] {
            assert_eq!(routes.find(path), Route::Upstream, "{path}");
        }
        for path in [
            "",
            "/",
            "//",
            "*",
            "/a.v1.Auth",
            "a.v1.Auth/Get",
            "/a.v1.AuthX/Get",
            "/a.v1.Aut/Get",
            "/A.V1.AUTH/Get",
            "//a.v1.Auth/Get",
            "/x/../a.v1.Auth/Get",
            "/%61.v1.Auth/Get",
            "/a.v1.Admin/Get",
        ] {
            assert_eq!(routes.find(path), Route::Unknown, "{path}");
        }
    }
}
