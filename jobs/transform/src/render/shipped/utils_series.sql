{# Series of dbt_utils, on our dialect. #}

{# 1 to `upper_bound`. #}
{% macro generate_series(upper_bound) -%}
    select unnest(range(1, {{ upper_bound }} + 1)) as generated_number
{%- endmacro %}

{# One row per `datepart` from `start_date` on, `end_date` excluded; both are SQL. #}
{% macro date_spine(datepart, start_date, end_date) -%}
    select dateadd('{{ datepart | lower }}', step, cast({{ start_date }} as timestamp)) as date_{{ datepart | lower }}
    from (
        select unnest(range(0, datediff('{{ datepart | lower }}', cast({{ start_date }} as timestamp), cast({{ end_date }} as timestamp)))) as step
    ) as steps
{%- endmacro %}

{% macro get_intervals_between(start_date, end_date, datepart) -%}
    {{ return(get_single_value("select datediff('" ~ datepart ~ "', cast(" ~ start_date ~ " as timestamp), cast(" ~ end_date ~ " as timestamp))", 1)) }}
{%- endmacro %}

{% macro get_powers_of_two(upper_bound) -%}
    {%- for index in range(1, 100) -%}
        {%- if upper_bound <= 2 ** index -%}{{ return(index) }}{%- endif -%}
    {%- endfor -%}
{%- endmacro %}
