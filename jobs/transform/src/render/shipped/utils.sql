{# What projects expect of dbt_utils, on our dialect. #}

{# A key of several columns: SHA-256 in hex; nulls count as a value of their own. #}
{% macro generate_surrogate_key(field_list) -%}
    sha256_hex(
    {%- for field in field_list -%}
        coalesce(cast({{ field }} as varchar), '_dbt_utils_surrogate_key_null_'){{ "" if loop.last else " || '-' || " }}
    {%- endfor -%}
    )
{%- endmacro %}

{# All columns of a relation, some excepted. #}
{% macro star(from, relation_alias=none, except=[]) -%}
    {%- set columns = adapter.get_columns_in_relation(from) -%}
    {%- set kept = namespace(names=[]) -%}
    {%- for column in columns if column.name not in except -%}
        {%- set kept.names = kept.names + [(relation_alias ~ "." if relation_alias else "") ~ column.name] -%}
    {%- endfor -%}
    {{ kept.names | join(", ") if kept.names else "*" }}
{%- endmacro %}

{# The latest row per key: of `relation`, one row per combination of `keys`, the first by `order_by`. #}
{% macro deduplicate(relation, partition_by, order_by) -%}
    select * from {{ relation }}
    qualify row_number() over (partition by {{ partition_by }} order by {{ order_by }}) = 1
{%- endmacro %}
