//! Tenants, which the operator creates.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Shared;
use crate::auth::Operator;
use crate::clock::now;
use crate::extract::Body;
use crate::openapi::tag;
use crate::problem::{Problem, ProblemBody};
use crate::secret;
use crate::text::name_problem;

/// An organization to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrganization {
    /// What it is called, 1 to 200 bytes.
    name: String,
}

/// A new organization.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewOrganizationView {
    /// Its id.
    id: String,
    /// What it is called.
    name: String,
    /// Its first API key. Shown here and never again.
    #[schema(example = "crest_sk_...")]
    api_key: String,
}

/// Create an organization
///
/// For the operator: the organization that the server started with.
#[utoipa::path(post, path = "/v1/organizations", operation_id = "createOrganization", tag = tag::ORGANIZATIONS,
    request_body = NewOrganization,
    responses(
        (status = 201, body = NewOrganizationView, description = "The organization, with its first key"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "`operator_only`"),
    ))]
pub async fn create(
    State(api): State<Shared>,
    Operator(operator): Operator,
    Body(new): Body<NewOrganization>,
) -> Result<(StatusCode, Json<NewOrganizationView>), Problem> {
    let name = name_problem("name", &new.name)?;
    let api_key = secret::api_key()?;
    let organization = api.store.create_organization(&name, &api_key, now()).await?;
    tracing::info!(organization_id = %organization.id, operator_id = %operator.id, "organization created");
    let view = NewOrganizationView { id: organization.id.to_string(), name: organization.name, api_key };
    Ok((StatusCode::CREATED, Json(view)))
}
