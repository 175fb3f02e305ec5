//! Files on their way: one organization must not take all connections with downloads that it never reads.

use crest_core::OrganizationId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::codes::Code;
use crate::problem::Problem;

/// The downloads under way, by organization. Clones share them.
#[derive(Debug, Clone)]
pub struct Downloads {
    most: u32,
    under_way: Arc<Mutex<HashMap<OrganizationId, u32>>>,
}

/// One download; dropping it makes room for another.
#[derive(Debug)]
pub struct Download {
    downloads: Downloads,
    organization: OrganizationId,
}

impl Downloads {
    /// At most so many of one organization.
    pub fn new(most: u32) -> Self {
        Self { most, under_way: Arc::default() }
    }

    /// Begins one, if there may be one more.
    pub fn begin(&self, organization: &OrganizationId) -> Result<Download, Problem> {
        let mut under_way = self.lock();
        let own = under_way.entry(organization.clone()).or_default();
        if *own >= self.most {
            let text = format!("An organization may have {own} downloads under way; finish one.");
            return Err(Problem::new(Code::TooManyDownloads, text));
        }
        *own += 1;
        Ok(Download { downloads: self.clone(), organization: organization.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrganizationId, u32>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let mut under_way = self.downloads.lock();
        if let Some(own) = under_way.get_mut(&self.organization) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                under_way.remove(&self.organization);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_organization_has_its_share_and_gets_it_back() {
        let downloads = Downloads::new(2);
        let (a, b) = (OrganizationId::from_raw("org_a"), OrganizationId::from_raw("org_b"));
        let first = downloads.begin(&a).unwrap();
        let _second = downloads.begin(&a).unwrap();
        assert!(downloads.begin(&a).is_err());
        let _other = downloads.begin(&b).unwrap();
        drop(first);
        assert!(downloads.begin(&a).is_ok());
    }
}
