//! An address of a web server or a registry, with its credentials and its redirect target.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::header::HeaderValue;
use reqwest::{Response, StatusCode};
use url::Url;

use crate::Error;
use crate::transport::credentials::Login;
use crate::transport::endpoint::{Endpoint, GetRequest, Hop};
use crate::transport::http_client::HttpClient;
use crate::transport::registry_auth::RegistryAuth;
use crate::transport::retry::RequestError;

/// An address, and what is needed to read from it.
pub(crate) struct Origin {
    pub(crate) endpoint: Endpoint,
    auth: Auth,
    /// The target of the last redirect. Later requests go there directly, because a redirector may
    /// send each request to another mirror.
    pinned: Mutex<Option<Hop>>,
}

enum Auth {
    Login(Option<HeaderValue>),
    Registry(Arc<RegistryAuth>),
}

impl Origin {
    /// A web address, with the login that the URL or the client's credentials have for it.
    pub(crate) fn web(http: HttpClient, url: &Url, caller_verifies: bool) -> Self {
        let login = http.options.credentials.for_address(url);
        let login = login.as_ref().and_then(Login::header);
        let endpoint = Endpoint::new(http, url, login.is_some(), caller_verifies);
        Self { endpoint, auth: Auth::Login(login), pinned: Mutex::new(None) }
    }

    /// An address of a registry, which may ask for a token.
    pub(crate) fn registry(
        http: HttpClient,
        url: &Url,
        auth: Arc<RegistryAuth>,
        caller_verifies: bool,
    ) -> Self {
        let endpoint = Endpoint::new(http, url, auth.has_login(), caller_verifies);
        Self { endpoint, auth: Auth::Registry(auth), pinned: Mutex::new(None) }
    }

    /// An error about this address.
    pub(crate) fn error(&self, message: impl Into<String>) -> Error {
        self.endpoint.error(message)
    }

    /// Sends `request` once. The response has status 2xx or 416, and an unencoded body.
    pub(crate) async fn get(&self, request: &GetRequest<'_>) -> Result<Response, RequestError> {
        let response = self.send(request).await?;
        self.endpoint.accept(response)
    }

    /// Sends `request` once, and returns the response whatever its status. When the registry
    /// refuses a token, a new one is tried once.
    pub(crate) async fn send(&self, request: &GetRequest<'_>) -> Result<Response, RequestError> {
        let pinned = self.pinned().clone();
        if let Some(hop) = pinned {
            let target = hop.url.clone();
            let authorization = self.authorization().await;
            if let Ok((response, hop)) =
                self.endpoint.send(hop, request, authorization.as_ref()).await
                && response.status().is_success()
            {
                self.pinned().replace(hop);
                return Ok(response);
            }
            // the redirect has expired, or the mirror fails: ask the origin for another
            self.pinned().take_if(|hop| hop.url == target);
        }
        let authorization = self.authorization().await;
        let home = self.endpoint.home();
        let (mut response, mut hop) =
            self.endpoint.send(home, request, authorization.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && hop.is_home
            && let Auth::Registry(auth) = &self.auth
        {
            let renewed = auth.renew(authorization.as_ref(), response.headers()).await?;
            let home = self.endpoint.home();
            (response, hop) = self.endpoint.send(home, request, renewed.as_ref()).await?;
        }
        if response.status().is_success() && self.endpoint.is_redirected(&hop) {
            self.pinned().replace(hop);
        }
        Ok(response)
    }

    async fn authorization(&self) -> Option<HeaderValue> {
        match &self.auth {
            Auth::Login(login) => login.clone(),
            Auth::Registry(auth) => auth.authorization().await,
        }
    }

    fn pinned(&self) -> MutexGuard<'_, Option<Hop>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
