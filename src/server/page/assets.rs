//! What the page takes in besides its text: its style, its script and its icon.

use std::sync::LazyLock;

use reactor::http::{Reply, Request};
use sha2::{Digest, Sha256};

/// Where they are.
const PREFIX: &str = "/page/";

/// A file of the page. Its path changes with its content, so it may be kept for ever.
pub(crate) struct Asset {
    path: String,
    content_type: &'static str,
    content: &'static str,
}

static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        Asset::new("css", "text/css; charset=utf-8", include_str!("page.css")),
        Asset::new("js", "text/javascript; charset=utf-8", include_str!("page.js")),
        Asset::new("svg", "image/svg+xml", include_str!("page.svg")),
    ]
});

pub(crate) fn style() -> &'static Asset {
    &ASSETS[0]
}

pub(crate) fn script() -> &'static Asset {
    &ASSETS[1]
}

pub(crate) fn icon() -> &'static Asset {
    &ASSETS[2]
}

/// That of a path, if there is one.
pub(crate) fn at(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

impl Asset {
    fn new(extension: &str, content_type: &'static str, content: &'static str) -> Asset {
        let sum = Sha256::digest(content);
        let hash = sum.iter().take(8).fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
        Asset { path: format!("{PREFIX}{hash}.{extension}"), content_type, content }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// As of its path, which is that of this content alone.
    pub(crate) fn send(&self, request: Request) {
        self.described(request)
            .header("Cache-Control", "public, max-age=31536000, immutable")
            .shared(self.content)
            .send();
    }

    /// As of a path that stays when the content changes.
    pub(crate) fn send_fresh(&self, request: Request) {
        self.described(request).header("Cache-Control", "public, max-age=3600").shared(self.content).send();
    }

    fn described(&self, request: Request) -> Reply {
        request
            .reply(200)
            .header("Content-Type", self.content_type)
            .header("X-Content-Type-Options", "nosniff")
            .header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
            .header("Cross-Origin-Resource-Policy", "same-origin")
    }
}
