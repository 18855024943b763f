//! The clouds of Azure: endpoints and token authorities, as in the Azure CLI.
//!
//! Microsoft retired Defender for Cloud in Azure China on 2026-08-18.

use std::str::FromStr;

use http::Uri;

use super::AzureError;
use crate::defender::identity::Azure;
use crate::net::{Cause, Explanation};

/// A cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cloud {
    /// The public cloud.
    #[default]
    Public,
    /// Azure Government of the United States.
    UsGovernment,
    /// The endpoint of another Azure Resource Manager: `https://HOST[:PORT]`.
    Custom(String),
}

impl Cloud {
    /// Returns the cloud of an AKS cluster by the host of its API server; the default is the public cloud.
    ///
    /// # Errors
    /// If the cluster is in Azure China.
    pub fn of_server(host: &str) -> Result<Self, AzureError> {
        match Azure::of_server(host) {
            Some(Azure::UsGovernment) => Ok(Self::UsGovernment),
            Some(Azure::China) => "AzureChinaCloud".parse(),
            Some(Azure::Public) | None => Ok(Self::Public),
        }
    }

    /// Returns the endpoint of Azure Resource Manager, without a trailing slash.
    pub fn endpoint(&self) -> &str {
        match self {
            Self::Public => "https://management.azure.com",
            Self::UsGovernment => "https://management.usgovcloudapi.net",
            Self::Custom(endpoint) => endpoint,
        }
    }

    /// Returns the token authority; `variable` is `AZURE_AUTHORITY_HOST`, which workload identity sets.
    pub(super) fn authority(&self, variable: Option<String>) -> String {
        let known = match self {
            Self::UsGovernment => "https://login.microsoftonline.us",
            Self::Public | Self::Custom(_) => "https://login.microsoftonline.com",
        };
        variable.unwrap_or_else(|| known.to_owned())
    }
}

/// Parses a cloud name of the Azure CLI, a short name, or an endpoint.
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
            Explanation::new(Cause::Setting, message)
                .with_hint("use AzureCloud, AzureUSGovernment or https://HOST[:PORT]; see: az cloud list")
                .failed_to("select the cloud")
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
        let is_endpoint = |uri: &Uri| {
            uri.scheme_str() == Some("https")
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.path() == "/"
                && uri.query().is_none()
                && uri
                    .authority()
                    .is_some_and(|authority| !authority.as_str().contains('@'))
        };
        match uri.filter(is_endpoint) {
            Some(uri) => Ok(Self::Custom(uri.to_string().trim_end_matches('/').to_owned())),
            // The text may hold a password.
            None => Err(refuse(
                "it is neither the name of a cloud nor a URL of the form https://HOST[:PORT]".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_and_authority_follow_the_cloud() {
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
            assert_eq!(cloud.authority(None), authority);
            assert_eq!(cloud.authority(Some("https://other".to_owned())), "https://other");
        }
    }

    #[test]
    fn cloud_follows_the_host_of_the_api_server() {
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
    fn invalid_cloud_is_refused_without_showing_secrets() {
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
