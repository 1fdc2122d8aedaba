WITH chosen AS (
    SELECT * FROM unnest(%(cells)s::bigint[], %(parts)s::jsonb[], %(groups)s::text[]) AS c(cell, part, grp)
), counted AS (
    {counted}
)
{aggregate}
