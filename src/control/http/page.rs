//! The page: four files, part of the program.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

type File = ([(axum::http::HeaderName, &'static str); 1], &'static str);

fn file(kind: &'static str, text: &'static str) -> File {
    ([(CONTENT_TYPE, kind)], text)
}

pub(super) async fn page() -> impl IntoResponse {
    file(
        "text/html; charset=utf-8",
        include_str!("assets/index.html"),
    )
}

pub(super) async fn script() -> impl IntoResponse {
    file(
        "text/javascript; charset=utf-8",
        include_str!("assets/app.js"),
    )
}

pub(super) async fn style() -> impl IntoResponse {
    file("text/css; charset=utf-8", include_str!("assets/app.css"))
}

pub(super) async fn icon() -> impl IntoResponse {
    file("image/svg+xml", include_str!("assets/favicon.svg"))
}
