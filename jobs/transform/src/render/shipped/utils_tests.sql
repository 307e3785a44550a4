{# Generic tests of dbt_utils, on our dialect: each is a query of the rows that fail. #}

{% test at_least_one(model, column_name, group_by_columns=[]) %}
select * from (
    select {{ (group_by_columns + ["count(" ~ column_name ~ ") as filled"]) | join(", ") }} from {{ model }}
    {{ "group by " ~ group_by_columns | join(", ") if group_by_columns else "" }}
) as counted
where filled = 0
{% endtest %}

{% test not_constant(model, column_name, group_by_columns=[]) %}
select * from (
    select {{ (group_by_columns + ["count(distinct " ~ column_name ~ ") as filled"]) | join(", ") }} from {{ model }}
    {{ "group by " ~ group_by_columns | join(", ") if group_by_columns else "" }}
) as counted
where filled = 1
{% endtest %}

{% test not_empty_string(model, column_name, trim_whitespace=true) %}
select * from {{ model }} where {{ "trim(" ~ column_name ~ ")" if trim_whitespace else column_name }} = ''
{% endtest %}

{% test not_accepted_values(model, column_name, values, quote=true) %}
select {{ column_name }} as value_field from {{ model }}
where {{ column_name }} in (
    {%- for value in values -%}
        {%- if quote -%}'{{ value | string | replace("'", "''") }}'{%- else -%}{{ value }}{%- endif -%}
        {{ "" if loop.last else ", " }}
    {%- endfor -%}
)
{% endtest %}

{% test relationships_where(model, column_name, to, field, from_condition="1=1", to_condition="1=1") %}
select child.from_field
from (select {{ column_name }} as from_field from {{ model }} where {{ column_name }} is not null and {{ from_condition }}) as child
left join (select {{ field }} as to_field from {{ to }} where {{ to_condition }}) as parent on child.from_field = parent.to_field
where parent.to_field is null
{% endtest %}

{% test fewer_rows_than(model, compare_model) %}
select left_rows, right_rows
from (select count(*) as left_rows from {{ model }}) as counted_left
cross join (select count(*) as right_rows from {{ compare_model }}) as counted_right
where left_rows >= right_rows
{% endtest %}

{% test cardinality_equality(model, column_name, to, field) %}
select * from (
    select coalesce(here.value, there.value) as value, here.num_rows as num_rows_here, there.num_rows as num_rows_there
    from (select {{ column_name }} as value, count(*) as num_rows from {{ model }} group by {{ column_name }}) as here
    full join (select {{ field }} as value, count(*) as num_rows from {{ to }} group by {{ field }}) as there
        on here.value = there.value
) as compared
where num_rows_here is distinct from num_rows_there
{% endtest %}

{% test equality(model, compare_model, compare_columns=none, exclude_columns=none) %}
{%- set names = [] -%}
{%- if compare_columns -%}
    {%- do names.extend(compare_columns) -%}
{%- else -%}
    {%- do names.extend(get_filtered_columns_in_relation(compare_model, exclude_columns or [])) -%}
{%- endif -%}
{%- set columns = names | join(", ") if names else "*" -%}
select * from (
    (select {{ columns }}, 'missing in compared' as difference from (select {{ columns }} from {{ model }} except select {{ columns }} from {{ compare_model }}) as here)
    union all
    (select {{ columns }}, 'missing in model' as difference from (select {{ columns }} from {{ compare_model }} except select {{ columns }} from {{ model }}) as there)
) as compared
{% endtest %}

{# Ranges of one partition: `gaps` and `zero_length_range_allowed` as in dbt_utils. #}
{% test mutually_exclusive_ranges(model, lower_bound_column, upper_bound_column, partition_by=none, gaps='allowed', zero_length_range_allowed=false) %}
{%- set comparisons = {'not_allowed': '=', 'allowed': '<=', 'required': '<'} -%}
{%- if gaps not in comparisons -%}
    {{ exceptions.raise_compiler_error("gaps is none of not_allowed, allowed, required, gaps=`" ~ gaps ~ "`") }}
{%- endif -%}
{%- set partition = "partition by " ~ partition_by if partition_by else "" -%}
select * from (
    select
        {{ partition_by ~ ", " if partition_by else "" }}{{ lower_bound_column }} as lower_bound, {{ upper_bound_column }} as upper_bound,
        lead({{ lower_bound_column }}) over ({{ partition }} order by {{ lower_bound_column }}, {{ upper_bound_column }}) as next_lower_bound,
        row_number() over ({{ partition }} order by {{ lower_bound_column }} desc, {{ upper_bound_column }} desc) = 1 as is_last
    from {{ model }}
) as ranges
where not (
    coalesce(lower_bound {{ "<=" if zero_length_range_allowed else "<" }} upper_bound, is_last)
    and coalesce(upper_bound {{ comparisons[gaps] }} next_lower_bound, is_last, false)
)
{% endtest %}

{% test sequential_values(model, column_name, interval=1, datepart=none, group_by_columns=[]) %}
{%- set partition = "partition by " ~ group_by_columns | join(", ") if group_by_columns else "" -%}
select * from (
    select {{ column_name }} as value, lag({{ column_name }}) over ({{ partition }} order by {{ column_name }}) as value_before
    from {{ model }}
) as windowed
{% if datepart -%}
where value_before is not null
    and cast(value as timestamp) <> dateadd('{{ datepart }}', {{ interval }}, cast(value_before as timestamp))
{%- else -%}
where value_before is not null and value <> value_before + {{ interval }}
{%- endif %}
{% endtest %}
