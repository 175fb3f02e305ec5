//! What must not be forgotten: database, outbox, leases, migrations.
