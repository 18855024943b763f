//! Which Azure: where it is asked, for what tokens are, and who gives them out.
//!
//! Endpoints and authorities are those that the Azure CLI has for its clouds; that Defender for Cloud in Azure
//! China is retired is said on Microsoft's page about it (2026-08-18).

use std::str::FromStr;

use http::Uri;

use super::{AzureError, Cause, Explained};
use crate::defender::identity::Azure;

/// A cloud to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cloud {
    /// Azure, as most people know it.
    #[default]
    Public,
    /// Azure for the government of the United States.
    UsGovernment,
    /// An endpoint that answers as Azure Resource Manager does.
    Custom(CustomCloud),
}

/// A cloud of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomCloud {
    /// Where it is: `https://HOST[:PORT]`, without a path.
    endpoint: String,
    /// What its tokens are for; the endpoint, unless another is named.
    pub audience: Option<String>,
    /// Who gives tokens to workload identities (`https://...`); that of the public cloud, unless another is
    /// named here or in `AZURE_AUTHORITY_HOST`.
    pub authority: Option<String>,
}

impl Cloud {
    /// The cloud of the AKS cluster whose API server has this name; the public one for any other.
    ///
    /// # Errors
    ///
    /// A cluster in Azure China.
    pub fn of_server(host: &str) -> Result<Self, AzureError> {
        match Azure::of_server(host) {
            Some(Azure::UsGovernment) => Ok(Self::UsGovernment),
            Some(Azure::China) => "AzureChinaCloud".parse(),
            Some(Azure::Public) | None => Ok(Self::Public),
        }
    }

    /// Where Azure Resource Manager is, without a slash at the end.
    pub fn endpoint(&self) -> &str {
        match self {
            Self::Public => "https://management.azure.com",
            Self::UsGovernment => "https://management.usgovcloudapi.net",
            Self::Custom(custom) => &custom.endpoint,
        }
    }

    /// The scope to ask tokens for.
    pub fn token_scope(&self) -> String {
        let audience = match self {
            Self::Custom(CustomCloud {
                audience: Some(audience),
                ..
            }) => audience.trim_end_matches('/'),
            _ => self.endpoint(),
        };
        format!("{audience}/.default")
    }

    /// Who gives out tokens; `variable` is `AZURE_AUTHORITY_HOST`, which workload identity sets.
    pub(super) fn authority(&self, variable: Option<String>) -> String {
        if let Self::Custom(CustomCloud {
            authority: Some(authority),
            ..
        }) = self
        {
            return authority.clone();
        }
        let known = match self {
            Self::UsGovernment => "https://login.microsoftonline.us",
            Self::Public | Self::Custom(_) => "https://login.microsoftonline.com",
        };
        variable.unwrap_or_else(|| known.to_owned())
    }
}

/// The Azure CLI's names of clouds, short ones, or the endpoint of a cloud of one's own.
///
/// ```
/// # use defender_sim::azure::Cloud;
/// assert_eq!("AzureUSGovernment".parse(), Ok(Cloud::UsGovernment));
/// assert!("AzureChinaCloud".parse::<Cloud>().unwrap_err().to_string().contains("retired"));
/// ```
impl FromStr for Cloud {
    type Err = AzureError;

    fn from_str(text: &str) -> Result<Self, AzureError> {
        let refuse = |message: String| {
            Explained::new(Cause::Setting, message)
                .hint("name AzureCloud, AzureUSGovernment or https://HOST[:PORT]; see: az cloud list")
                .doing("choose the cloud")
        };
        match text.trim().to_ascii_lowercase().as_str() {
            "azurecloud" | "public" => return Ok(Self::Public),
            "azureusgovernment" | "usgovernment" => return Ok(Self::UsGovernment),
            "azurechinacloud" | "china" => {
                return Err(refuse(
                    "Defender for Cloud in Azure China is retired since 2026-08-18: no alerts can be read there"
                        .to_owned(),
                ));
            }
            _ => {}
        }
        let uri: Option<Uri> = text.trim().parse().ok();
        let plain = |uri: &Uri| {
            uri.scheme_str() == Some("https")
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.path() == "/"
                && uri.query().is_none()
                && uri
                    .authority()
                    .is_some_and(|authority| !authority.as_str().contains('@'))
        };
        match uri.filter(plain) {
            Some(uri) => Ok(Self::Custom(CustomCloud {
                endpoint: uri.to_string().trim_end_matches('/').to_owned(),
                audience: None,
                authority: None,
            })),
            // What was given may hold a password; it is not repeated.
            None => Err(refuse(
                "it is neither the name of a cloud nor an address of the form https://HOST[:PORT]".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_and_authority_follow_the_cloud() {
        let custom = "https://arm.example.test:8443/";
        for (name, endpoint, authority) in [
            (
                "AzureCloud",
                "https://management.azure.com",
                "https://login.microsoftonline.com",
            ),
            (
                "public",
                "https://management.azure.com",
                "https://login.microsoftonline.com",
            ),
            (
                "AzureUSGovernment",
                "https://management.usgovcloudapi.net",
                "https://login.microsoftonline.us",
            ),
            (
                custom,
                "https://arm.example.test:8443",
                "https://login.microsoftonline.com",
            ),
        ] {
            let cloud: Cloud = name.parse().unwrap();
            assert_eq!(cloud.endpoint(), endpoint);
            assert_eq!(cloud.token_scope(), format!("{endpoint}/.default"));
            assert_eq!(cloud.authority(None), authority);
            assert_eq!(cloud.authority(Some("https://other".to_owned())), "https://other");
        }
        let Cloud::Custom(mut own) = custom.parse().unwrap() else {
            panic!("a cloud of one's own");
        };
        own.audience = Some("https://audience.example.test/".to_owned());
        own.authority = Some("https://login.example.test".to_owned());
        let cloud = Cloud::Custom(own);
        assert_eq!(cloud.token_scope(), "https://audience.example.test/.default");
        assert_eq!(
            cloud.authority(Some("https://other".to_owned())),
            "https://login.example.test"
        );
    }

    #[test]
    fn the_name_of_an_aks_cluster_says_which_cloud() {
        for (host, cloud) in [
            ("x-1.hcp.westeurope.azmk8s.io", Cloud::Public),
            (
                "x-1.HCP.usgovvirginia.cx.aks.containerservice.azure.us",
                Cloud::UsGovernment,
            ),
            ("x-1.privatelink.usgovvirginia.azmk8s.us", Cloud::UsGovernment),
            ("api.example.test", Cloud::Public),
        ] {
            assert_eq!(Cloud::of_server(host), Ok(cloud), "{host}");
        }
        let china = Cloud::of_server("x-1.hcp.chinaeast2.cx.prod.service.azk8s.cn");
        assert!(china.unwrap_err().to_string().contains("retired"));
    }

    #[test]
    fn what_is_no_cloud_is_refused_without_its_secrets() {
        for name in [
            "AzureChinaCloud",
            "china",
            "mars",
            "",
            "http://arm.example.test",
            "https://me:hunter2@arm.example.test",
            "https://arm.example.test/path?hunter2",
        ] {
            let error = name.parse::<Cloud>().unwrap_err();
            assert_eq!(error.explained.cause, Cause::Setting);
            assert!(error.explained.hint.is_some());
            assert!(!format!("{error} {error:?}").contains("hunter2"));
            assert_eq!(
                error.to_string().contains("retired"),
                name.to_lowercase().contains("china")
            );
        }
    }
}
