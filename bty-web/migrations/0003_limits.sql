-- an event that came again and again: how often, and when last
ALTER TABLE events ADD COLUMN count INTEGER NOT NULL DEFAULT 1;
ALTER TABLE events ADD COLUMN last_ts INTEGER;

-- machines that became known by themselves, and that nothing was done with: the one that was seen longest ago makes room for others
CREATE INDEX machines_unassigned ON machines (last_seen_at)
    WHERE discovered_at IS NOT NULL AND updated_at = created_at AND image_ref IS NULL AND target_serial IS NULL
      AND labels_json = '[]' AND flashed_json IS NULL;
