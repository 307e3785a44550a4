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

{# A condition that holds for each row; with a column, `<column> <expression>`. #}
{% test expression_is_true(model, expression, column_name=none) %}
select * from {{ model }}
where not coalesce(({% if column_name %}{{ column_name }} {% endif %}{{ expression }}), false)
{% endtest %}

{% test unique_combination_of_columns(model, combination_of_columns) %}
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

{% test not_null_proportion(model, column_name, at_least=1.0, at_most=1.0) %}
select proportion from (
    select cast(count({{ column_name }}) as double) / nullif(count(*), 0) as proportion from {{ model }}
) as counted
where proportion < {{ at_least }} or proportion > {{ at_most }}
{% endtest %}

{% test row_count(model, min_value=1, max_value=none) %}
select num_rows from (select count(*) as num_rows from {{ model }}) as counted
where num_rows < {{ min_value }}{% if max_value is not none %} or num_rows > {{ max_value }}{% endif %}
{% endtest %}

{% test equal_rowcount(model, compare_model) %}
select left_rows, right_rows
from (select count(*) as left_rows from {{ model }}) as counted_left
cross join (select count(*) as right_rows from {{ compare_model }}) as counted_right
where left_rows <> right_rows
{% endtest %}
