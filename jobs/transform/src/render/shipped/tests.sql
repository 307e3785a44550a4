{# Generic tests: each is a query of the rows that fail. #}

{% test not_null(model, column_name) %}
select * from {{ model }} where {{ column_name }} is null
{% endtest %}

{% test unique(model, column_name) %}
select {{ column_name }} as unique_field, count(*) as n_records
from {{ model }}
where {{ column_name }} is not null
group by {{ column_name }}
having count(*) > 1
{% endtest %}

{% test accepted_values(model, column_name, values, quote=true) %}
select {{ column_name }} as value_field, count(*) as n_records
from {{ model }}
where {{ column_name }} is not null and {{ column_name }} not in (
    {%- for value in values -%}
        {%- if quote -%}'{{ value | string | replace("'", "''") }}'{%- else -%}{{ value }}{%- endif -%}
        {{ "" if loop.last else ", " }}
    {%- endfor -%}
)
group by {{ column_name }}
{% endtest %}

{% test relationships(model, column_name, to, field) %}
select child.from_field
from (select {{ column_name }} as from_field from {{ model }} where {{ column_name }} is not null) as child
left join (select {{ field }} as to_field from {{ to }}) as parent on child.from_field = parent.to_field
where parent.to_field is null
{% endtest %}

{# A condition that is false for no row; with a column, `<column> <expression>`. #}
{% test expression_is_true(model, expression, column_name=none) %}
select * from {{ model }}
where not ({% if column_name %}{{ column_name }} {% endif %}{{ expression }})
{% endtest %}

{% test unique_combination_of_columns(model, combination_of_columns, quote_columns=false) %}
{%- if quote_columns -%}
    {%- set quoted = namespace(names=[]) -%}
    {%- for column in combination_of_columns -%}
        {%- set quoted.names = quoted.names + [adapter.quote(column)] -%}
    {%- endfor -%}
    {%- set combination_of_columns = quoted.names -%}
{%- endif -%}
select {{ combination_of_columns | join(", ") }}, count(*) as n_records
from {{ model }}
group by {{ combination_of_columns | join(", ") }}
having count(*) > 1
{% endtest %}

{% test unique_combination(model, columns) %}
{{ test_unique_combination_of_columns(model, columns) }}
{% endtest %}

{# `min_value` and `max_value` are allowed themselves unless `inclusive: false`. #}
{% test accepted_range(model, column_name, min_value=none, max_value=none, inclusive=true) %}
select * from {{ model }}
where false
    {% if min_value is not none %}or {{ column_name }} <{{ "" if inclusive else "=" }} {{ min_value }}{% endif %}
    {% if max_value is not none %}or {{ column_name }} >{{ "" if inclusive else "=" }} {{ max_value }}{% endif %}
{% endtest %}

{% test not_null_proportion(model, column_name, at_least=1.0, at_most=1.0, group_by_columns=[]) %}
select * from (
    select
        {% for column in group_by_columns %}{{ column }}, {% endfor %}
        cast(count({{ column_name }}) as double) / nullif(count(*), 0) as proportion
    from {{ model }}
    {% if group_by_columns %}group by {{ group_by_columns | join(", ") }}{% endif %}
) as counted
where proportion < {{ at_least }} or proportion > {{ at_most }}
{% endtest %}

{% test row_count(model, min_value=1, max_value=none) %}
select num_rows from (select count(*) as num_rows from {{ model }}) as counted
where num_rows < {{ min_value }}{% if max_value is not none %} or num_rows > {{ max_value }}{% endif %}
{% endtest %}

{% test equal_rowcount(model, compare_model, group_by_columns=[]) %}
select * from (
    select {% for column in group_by_columns %}{{ column }}, {% endfor %}sum(own_row) as left_rows, sum(other_row) as right_rows
    from (
        select {% for column in group_by_columns %}{{ column }}, {% endfor %}1 as own_row, 0 as other_row from {{ model }}
        union all
        select {% for column in group_by_columns %}{{ column }}, {% endfor %}0 as own_row, 1 as other_row from {{ compare_model }}
    ) as both_sides
    {% if group_by_columns %}group by {{ group_by_columns | join(", ") }}{% endif %}
) as counted
where left_rows <> right_rows
{% endtest %}

{# What projects expect of dbt_utils. `group_by_columns` asks the question once per group. #}

{% test not_empty_string(model, column_name, trim_whitespace=true) %}
select * from {{ model }}
where {% if trim_whitespace %}trim({{ column_name }}){% else %}{{ column_name }}{% endif %} = ''
{% endtest %}

{% test not_accepted_values(model, column_name, values, quote=true) %}
select {{ column_name }} as value_field, count(*) as n_records
from {{ model }}
where {{ column_name }} in (
    {%- for value in values -%}
        {%- if quote -%}'{{ value | string | replace("'", "''") }}'{%- else -%}{{ value }}{%- endif -%}
        {{ "" if loop.last else ", " }}
    {%- endfor -%}
)
group by {{ column_name }}
{% endtest %}

{# The newest value is not older than that, by the run's clock. #}
{% test recency(model, field, datepart, interval, ignore_time_component=false, group_by_columns=[]) %}
{%- set newest = "cast(max(" ~ field ~ ") as date)" if ignore_time_component else "max(" ~ field ~ ")" -%}
{%- set clock = "cast(" ~ as_of() ~ " as date)" if ignore_time_component else as_of() -%}
select {% for column in group_by_columns %}{{ column }}, {% endfor %}{{ newest }} as most_recent
from {{ model }}
{% if group_by_columns %}group by {{ group_by_columns | join(", ") }}{% endif %}
having {{ newest }} < {{ clock }} - interval '{{ interval }} {{ datepart }}'
{% endtest %}

{% test at_least_one(model, column_name, group_by_columns=[]) %}
select {% for column in group_by_columns %}{{ column }}, {% endfor %}count({{ column_name }}) as num_values
from {{ model }}
{% if group_by_columns %}group by {{ group_by_columns | join(", ") }}{% endif %}
having count({{ column_name }}) = 0
{% endtest %}

{% test not_constant(model, column_name, group_by_columns=[]) %}
select {% for column in group_by_columns %}{{ column }}, {% endfor %}count(distinct {{ column_name }}) as num_values
from {{ model }}
{% if group_by_columns %}group by {{ group_by_columns | join(", ") }}{% endif %}
having count(distinct {{ column_name }}) = 1
{% endtest %}

{# Each value as often here as there. #}
{% test cardinality_equality(model, column_name, to, field) %}
select value_field, sum(left_rows) as left_rows, sum(right_rows) as right_rows
from (
    select {{ column_name }} as value_field, 1 as left_rows, 0 as right_rows from {{ model }}
    union all
    select {{ field }} as value_field, 0 as left_rows, 1 as right_rows from {{ to }}
) as both_sides
group by value_field
having sum(left_rows) <> sum(right_rows)
{% endtest %}

{% test fewer_rows_than(model, compare_model, group_by_columns=[]) %}
select {% for column in group_by_columns %}{{ column }}, {% endfor %}sum(own_rows) as own_rows, sum(other_rows) as other_rows
from (
    select {% for column in group_by_columns %}{{ column }}, {% endfor %}1 as own_rows, 0 as other_rows from {{ model }}
    union all
    select {% for column in group_by_columns %}{{ column }}, {% endfor %}0 as own_rows, 1 as other_rows from {{ compare_model }}
) as both_sides
{% if group_by_columns %}group by {{ group_by_columns | join(", ") }}{% endif %}
having coalesce(sum(own_rows), 0) >= coalesce(sum(other_rows), 0)
{% endtest %}

{# The same rows here and there; how often a row comes does not count, as in dbt_utils. #}
{% test equality(model, compare_model, compare_columns=none, exclude_columns=none, precision=none) %}
{%- set kept = namespace(names=compare_columns) -%}
{%- if exclude_columns -%}
    {%- set kept.names = [] -%}
    {%- for column in adapter.get_columns_in_relation(model) if column.name not in exclude_columns -%}
        {%- set kept.names = kept.names + [column.name] -%}
    {%- endfor -%}
    {%- if execute and not kept.names -%}
        {{ exceptions.raise_compiler_error("equality: the model's columns are not declared, so none can be excluded; use compare_columns") }}
    {%- endif -%}
{%- endif -%}
{%- set columns = kept.names | join(", ") if kept.names else "*" -%}
(select {{ columns }} from {{ model }} except select {{ columns }} from {{ compare_model }})
union all
(select {{ columns }} from {{ compare_model }} except select {{ columns }} from {{ model }})
{% endtest %}

{% test relationships_where(model, column_name, to, field, from_condition="true", to_condition="true") %}
select child.from_field
from (
    select {{ column_name }} as from_field from {{ model }}
    where {{ column_name }} is not null and {{ from_condition }}
) as child
left join (select {{ field }} as to_field from {{ to }} where {{ to_condition }}) as parent
    on child.from_field = parent.to_field
where parent.to_field is null
{% endtest %}

{# Ranges [lower, upper) of a partition do not overlap. Only the last may have no upper bound. #}
{% test mutually_exclusive_ranges(
    model, lower_bound_column, upper_bound_column, partition_by=none, gaps="allowed", zero_length_range_allowed=false
) %}
{%- set partition = "partition by " ~ partition_by if partition_by else "" -%}
{%- set next = {"allowed": "<=", "not_allowed": "=", "required": "<"} -%}
{%- if gaps not in next -%}
    {{ exceptions.raise_compiler_error("mutually_exclusive_ranges: gaps is allowed, not_allowed or required, gaps=`" ~ gaps ~ "`") }}
{%- endif -%}
select * from (
    select
        {% if partition_by %}{{ partition_by }} as partition_by_column,{% endif %}
        {{ lower_bound_column }} as lower_bound,
        {{ upper_bound_column }} as upper_bound,
        lead({{ lower_bound_column }}) over (
            {{ partition }} order by {{ lower_bound_column }}, {{ upper_bound_column }}
        ) as next_lower_bound,
        row_number() over (
            {{ partition }} order by {{ lower_bound_column }} desc, {{ upper_bound_column }} desc
        ) = 1 as is_last_record
    from {{ model }}
) as ranges
where not (
    coalesce(lower_bound <{{ "=" if zero_length_range_allowed else "" }} upper_bound, is_last_record, false)
    and coalesce(upper_bound {{ next[gaps] }} next_lower_bound, is_last_record, false)
)
{% endtest %}

{% test sequential_values(model, column_name, interval=1, datepart=none, group_by_columns=[]) %}
{%- set step = "interval '" ~ interval ~ " " ~ datepart ~ "'" if datepart else interval -%}
select * from (
    select
        {% for column in group_by_columns %}{{ column }}, {% endfor %}
        {{ column_name }} as value_field,
        lag({{ column_name }}) over (
            {% if group_by_columns %}partition by {{ group_by_columns | join(", ") }}{% endif %} order by {{ column_name }}
        ) as previous_value
    from {{ model }}
) as steps
where value_field <> previous_value + {{ step }}
{% endtest %}
