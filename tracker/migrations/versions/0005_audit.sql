-- The audit by time and by actor.

CREATE INDEX audit_at_idx ON audit (namespace, at, id);
CREATE INDEX audit_actor_idx ON audit (namespace, actor, at, id);
