{# What dbt_utils builds from the columns and values of relations, on our dialect. #}

{% macro get_filtered_columns_in_relation(from, except=[]) -%}
    {%- set left_out = except | map('lower') | list -%}
    {%- set names = [] -%}
    {%- for column in adapter.get_columns_in_relation(from) if column.name | lower not in left_out -%}
        {%- do names.append(column.name) -%}
    {%- endfor -%}
    {{ return(names) }}
{%- endmacro %}

{# All columns of a relation, some excepted. #}
{% macro star(from, relation_alias=false, except=[], prefix='', suffix='', quote_identifiers=true, unquote_aliases=false, rename={}) -%}
    {%- if not execute -%}{{ return('*') }}{%- endif -%}
    {%- set names = get_filtered_columns_in_relation(from, except) -%}
    {%- if not names -%}
        {{ exceptions.raise_compiler_error("star leaves no column of the relation, relation=`" ~ from ~ "`; build it first, or leave fewer columns out") }}
    {%- endif -%}
    {%- for name in names -%}
        {{ relation_alias ~ "." if relation_alias else "" }}{{ adapter.quote(name) if quote_identifiers else name }}
        {%- if name in rename %} as {{ rename[name] }}
        {%- elif prefix or suffix %} as {{ adapter.quote(prefix ~ name ~ suffix) if quote_identifiers and not unquote_aliases else prefix ~ name ~ suffix }}
        {%- endif -%}
        {{ "" if loop.last else ",\n    " }}
    {%- endfor -%}
{%- endmacro %}

{% macro get_column_values(table, column, order_by='count(*) desc', max_records=none, default=none, where=none) -%}
    {%- if not execute or not load_relation(table) -%}{{ return(default if default is not none else []) }}{%- endif -%}
    {%- set rows = run_query(
        "select " ~ column ~ " as value from " ~ table ~ (" where " ~ where if where else "") ~ " group by " ~ column
        ~ " order by " ~ order_by ~ (", 1" if order_by == 'count(*) desc' else "")
        ~ (" limit " ~ max_records if max_records else "")
    ) -%}
    {{ return(rows.columns[0].values()) }}
{%- endmacro %}

{% macro get_single_value(query, default=none) -%}
    {%- if not execute -%}{{ return(default) }}{%- endif -%}
    {%- set rows = run_query(query) -%}
    {{ return(rows.columns[0].values()[0] if rows.rows else default) }}
{%- endmacro %}

{% macro get_query_results_as_dict(query) -%}
    {%- set found = {} -%}
    {%- if execute -%}
        {%- set rows = run_query(query) -%}
        {%- for column in rows.columns -%}{%- do found.update({column.name: column.values()}) -%}{%- endfor -%}
    {%- endif -%}
    {{ return(found) }}
{%- endmacro %}

{# Values of a column become columns: one aggregate each. #}
{% macro pivot(column, values, alias=true, agg='sum', cmp='=', prefix='', suffix='', then_value=1, else_value=0, quote_identifiers=true, distinct=false) -%}
    {%- for value in values %}
    {{ agg }}({{ "distinct " if distinct else "" }}case when {{ column }} {{ cmp }} '{{ value | string | replace("'", "''") }}' then {{ then_value }} else {{ else_value }} end)
        {%- if alias %} as {{ adapter.quote(prefix ~ value ~ suffix) if quote_identifiers else slugify(prefix ~ value ~ suffix) }}{% endif -%}
        {{ "" if loop.last else "," }}
    {%- endfor %}
{%- endmacro %}

{# Columns become rows of a name and a value. #}
{% macro unpivot(relation=none, cast_to='varchar', exclude=none, remove=none, field_name='field_name', value_name='value', quote_identifiers=false, table=none) -%}
    {%- set relation = relation or table -%}
    {%- if not relation -%}
        {{ exceptions.raise_compiler_error("unpivot needs a relation: unpivot(relation=ref('…'))") }}
    {%- endif -%}
    {%- if not execute -%}{{ return('select 1') }}{%- endif -%}
    {%- set kept = exclude or [] -%}
    {%- set left_out = ((kept) + (remove or [])) | map('lower') | list -%}
    {%- set columns = [] -%}
    {%- for column in adapter.get_columns_in_relation(relation) if column.name | lower not in left_out -%}
        {%- do columns.append(column) -%}
    {%- endfor -%}
    {%- for column in columns %}
    select
        {% for name in kept %}{{ adapter.quote(name) if quote_identifiers else name }}, {% endfor -%}
        cast('{{ column.name }}' as varchar) as {{ adapter.quote(field_name) if quote_identifiers else field_name }},
        cast({{ adapter.quote(column.name) }} as {{ cast_to }}) as {{ adapter.quote(value_name) if quote_identifiers else value_name }}
    from {{ relation }}
    {{ "" if loop.last else "union all" }}
    {%- endfor %}
{%- endmacro %}

{# The rows of several relations; a column that one of them lacks is null there. #}
{% macro union_relations(relations, column_override=none, include=[], exclude=[], source_column_name='_dbt_source_relation', where=none) -%}
    {%- if include and exclude -%}
        {{ exceptions.raise_compiler_error("union_relations takes `include` or `exclude`, not both") }}
    {%- endif -%}
    {%- if not execute -%}{{ return('select 1') }}{%- endif -%}
    {%- set included = include | map('lower') | list -%}
    {%- set excluded = exclude | map('lower') | list -%}
    {%- set overrides = column_override or {} -%}
    {%- set types = {} -%}
    {%- set names = {} -%}
    {%- for relation in relations -%}
        {%- set own = [] -%}
        {%- for column in adapter.get_columns_in_relation(relation) -%}
            {%- set name = column.name | lower -%}
            {%- if name not in excluded and (not included or name in included) -%}
                {%- do own.append(column.name) -%}
                {%- if column.name not in types -%}{%- do types.update({column.name: column.data_type}) -%}{%- endif -%}
            {%- endif -%}
        {%- endfor -%}
        {%- do names.update({relation: own}) -%}
    {%- endfor -%}
    {%- if not types -%}
        {{ exceptions.raise_compiler_error("union_relations found no columns; build its relations first") }}
    {%- endif -%}
    {%- for relation in relations %}
    (
        select
            {%- if source_column_name %}
            cast('{{ relation }}' as varchar) as {{ source_column_name }},
            {%- endif %}
            {%- for name, data_type in types.items() %}
            cast({{ adapter.quote(name) if name in names[relation] else "null" }} as {{ overrides.get(name, data_type) }}) as {{ adapter.quote(name) }}{{ "" if loop.last else "," }}
            {%- endfor %}
        from {{ relation }}
        {{ "where " ~ where if where else "" }}
    )
    {{ "" if loop.last else "union all" }}
    {%- endfor %}
{%- endmacro %}

{# One row per combination of `partition_by`: the first by `order_by`. #}
{% macro deduplicate(relation, partition_by, order_by) -%}
    select * from {{ relation }}
    qualify row_number() over (partition by {{ partition_by }} order by {{ order_by }}) = 1
{%- endmacro %}
