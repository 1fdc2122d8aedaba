AND chosen.part = (SELECT jsonb_object_agg(k, f.detail -> k) FROM unnest(%(fields)s::text[]) AS k)
