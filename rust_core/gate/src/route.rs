//! Where a call goes, by its path. What the gate answers itself comes before a service, one method
//! at a time.

const CHECKS_SERVICE: &str = "watchword.v1.AuthService";

/// Packages that gRPC itself has defined.
const OTHERS: &str = "grpc.";

/// A method that asks about sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// `ValidateSession`.
    Session,
    /// `BatchValidateSessions`.
    Sessions,
    /// `GetRoles`.
    Roles,
}

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To Python, while there is room.
    Python,
    /// To grpc.aio, always: health and reflection, whose streams last and which ask no database.
    Aside,
    /// To the cache first, where there is one.
    Check(Check),
    /// Nowhere: no service of this listener.
    Unknown,
}

/// The services of one listener.
#[derive(Debug)]
pub(crate) struct Routes {
    services: Vec<String>,
}

impl Routes {
    pub(crate) fn new(services: Vec<String>) -> Self {
        Self { services }
    }

    /// Finds the route of a path, `/package.Service/Method` (gRPC over HTTP/2, "Path").
    pub(crate) fn find(&self, path: &str) -> Route {
        let Some((service, method)) = path.strip_prefix('/').and_then(|rest| rest.split_once('/'))
        else {
            return Route::Unknown;
        };
        if !self.services.iter().any(|known| known == service) {
            return Route::Unknown;
        }
        match (service, method) {
            (CHECKS_SERVICE, "ValidateSession") => Route::Check(Check::Session),
            (CHECKS_SERVICE, "BatchValidateSessions") => Route::Check(Check::Sessions),
            (CHECKS_SERVICE, "GetRoles") => Route::Check(Check::Roles),
            _ if service.starts_with(OTHERS) => Route::Aside,
            _ => Route::Python,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_of_services_are_passed_on() {
        let routes = Routes::new(vec![
            "a.v1.Auth".to_owned(),
            "grpc.health.v1.Health".to_owned(),
        ]);
        for path in [
            "/a.v1.Auth/Get",
            "/a.v1.Auth/ValidateSession",
            "/a.v1.Auth/",
        ] {
            assert_eq!(routes.find(path), Route::Python, "{path}");
        }
        assert_eq!(routes.find("/grpc.health.v1.Health/Watch"), Route::Aside);
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

    /// What asks about sessions is told by its whole name, where its service is served.
    #[test]
    fn checks_are_told_by_their_names() {
        let routes = Routes::new(vec![CHECKS_SERVICE.to_owned()]);
        for (method, route) in [
            ("ValidateSession", Route::Check(Check::Session)),
            ("BatchValidateSessions", Route::Check(Check::Sessions)),
            ("GetRoles", Route::Check(Check::Roles)),
            ("GetRolesX", Route::Python),
            ("Revoke", Route::Python),
        ] {
            let path = format!("/{CHECKS_SERVICE}/{method}");
            assert_eq!(routes.find(&path), route);
            assert_eq!(Routes::new(Vec::new()).find(&path), Route::Unknown);
        }
    }
}
