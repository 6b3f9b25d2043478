//! One shared access token per mini-program, refreshed once however many ask for it.

use std::{collections::HashMap, sync::Arc};

use secrecy::SecretString;

use crate::{store::Store, wechat::Wechat};

/// Keeps the access tokens of the mini-programs whose secret this process has.
pub struct TokenKeeper {
    #[expect(dead_code)]
    store: Store,
    #[expect(dead_code)]
    wechat: Arc<Wechat>,
    secrets: HashMap<String, SecretString>,
    #[expect(dead_code)]
    worker: String,
}

impl TokenKeeper {
    /// A keeper with an empty cache. `secrets` maps appid to appsecret; `worker` is this process's name and epoch.
    pub fn new(
        store: Store,
        wechat: Arc<Wechat>,
        secrets: HashMap<String, SecretString>,
        worker: String,
    ) -> Self {
        Self {
            store,
            wechat,
            secrets,
            worker,
        }
    }

    /// The mini-programs whose secret this process has, in no order.
    pub fn appids(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    /// Refreshes tokens in the background, 5 minutes before their end, until dropped. Run it beside the worker.
    pub async fn keep_fresh(&self) {
        std::future::pending::<()>().await;
    }
}
