-- One JSON object: rows of each table and a sum over them that does not depend on their order.
set local timezone = 'UTC';
set local datestyle = 'ISO, YMD';
set local intervalstyle = 'postgres';
set local bytea_output = 'hex';
set local extra_float_digits = 1;
set local search_path = pg_catalog;
with relations as (
    select c.oid, n.nspname, c.relname, c.relkind
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname <> 'information_schema' and n.nspname not like 'pg\_%'
), counted as (
    select nspname, relname, query_to_xml(format(
        'select count(*) as rows,
                coalesce(sum((''x'' || left(md5(t::text), 15))::bit(60)::bigint::numeric), 0) as sum
         from only %I.%I t', nspname, relname), false, true, '') as answer
    from relations where relkind = 'r'
), tables as (
    select json_object_agg(format('%I.%I', nspname, relname), json_build_object(
        'rows', ((xpath('//rows/text()', answer))[1]::text)::bigint,
        'sum', (xpath('//sum/text()', answer))[1]::text)
        order by nspname, relname) as body
    from counted
), kinds as (
    select json_object_agg(relkind, number order by relkind) as body
    from (select relkind::text, count(*) as number from relations group by 1) k
)
select json_build_object(
    'tables', coalesce((select body from tables), '{}'),
    'relations', coalesce((select body from kinds), '{}'),
    'large_objects', (select count(*) from pg_largeobject_metadata));
