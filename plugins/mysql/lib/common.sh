# What the scripts beside it share.

socket=/tmp/mysql.sock

# The administrator, known by the user that the process has: no password anywhere.
admin() {
    mariadb --no-defaults --socket="$socket" --user=service --batch --raw --skip-column-names --skip-print-query-on-error "$@"
}

# Prints the SQL that prints the facts of the database as one line of JSON. Values are compared as
# they are written in a dump, so that what is lost there (digits of a float) is lost on both sides.
facts_sql() {
    cat <<'SQL'
set session group_concat_max_len = 1073741824;
set session time_zone = '+00:00';
select concat(
    'select concat(''{"tables":{'', ', ifnull(group_concat(concat(
        'ifnull((select concat(', quote(concat(json_quote(t.name), ':{"rows":')), ', count(*), '',"sum":"'', ',
        'ifnull(sum(cast(conv(left(md5(concat_ws('','',', t.columns, ')), 15), 16, 10) as unsigned)), 0),',
        ' ''"}'') from `', replace(t.name, '`', '``'), '`), '''')'
    ) order by t.name separator ', '','', '), ''''''), ', ''},"views":',
    (select count(*) from information_schema.views where table_schema = database()), ',"triggers":',
    (select count(*) from information_schema.triggers where trigger_schema = database()), ',"routines":',
    (select count(*) from information_schema.routines where routine_schema = database()), ',"events":',
    (select count(*) from information_schema.events where event_schema = database()), '}'')'
) from (
    select c.table_name as name, group_concat(
        if(c.data_type in ('float', 'double', 'decimal', 'tinyint', 'smallint', 'mediumint', 'int', 'bigint', 'year', 'date', 'time', 'datetime', 'timestamp'),
            concat('ifnull(md5(cast(`', replace(c.column_name, '`', '``'), '` as char)), ''-'')'),
            concat('ifnull(md5(hex(`', replace(c.column_name, '`', '``'), '`)), ''-'')'))
        order by c.ordinal_position separator ','
    ) as columns
    from information_schema.columns c
    join information_schema.tables b on b.table_schema = c.table_schema and b.table_name = c.table_name
    where c.table_schema = database() and b.table_type = 'BASE TABLE'
    group by c.table_name
) t;
SQL
}
