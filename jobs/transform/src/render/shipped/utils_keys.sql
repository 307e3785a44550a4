{# Keys, sums and texts of dbt_utils, on our dialect. #}

{# A key of several columns: MD5 in hex; nulls count as a value of their own. #}
{% macro generate_surrogate_key(field_list) -%}
    {%- set null_value = "" if var("surrogate_key_treat_nulls_as_empty_strings", false) else "_dbt_utils_surrogate_key_null_" -%}
    md5(
    {%- for field in field_list -%}
        coalesce(cast({{ field }} as varchar), '{{ null_value }}'){{ "" if loop.last else " || '-' || " }}
    {%- endfor -%}
    )
{%- endmacro %}

{# The older name; columns as a list or one by one. Nulls count as empty text. #}
{% macro surrogate_key(field_list) -%}
    {%- set fields = [field_list] + varargs if field_list is string else field_list -%}
    md5(
    {%- for field in fields -%}
        coalesce(cast({{ field }} as varchar), ''){{ "" if loop.last else " || '-' || " }}
    {%- endfor -%}
    )
{%- endmacro %}

{% macro safe_divide(numerator, denominator) -%}
    ({{ numerator }}) / nullif(({{ denominator }}), 0)
{%- endmacro %}

{% macro safe_add(field_list) -%}
    {%- set fields = [field_list] + varargs if field_list is string else field_list -%}
    {%- for field in fields -%}coalesce({{ field }}, 0){{ "" if loop.last else " + " }}{%- endfor -%}
{%- endmacro %}

{% macro safe_subtract(field_list) -%}
    {%- for field in field_list -%}coalesce({{ field }}, 0){{ "" if loop.last else " - " }}{%- endfor -%}
{%- endmacro %}

{% macro group_by(n) -%}
    group by {% for index in range(1, n + 1) %}{{ index }}{{ "" if loop.last else ", " }}{% endfor %}
{%- endmacro %}

{% macro nullcheck(cols) -%}
    {%- for column in cols -%}
        {%- if column.is_string() -%}nullif({{ column.quoted }}, '') as {{ column.quoted }}
        {%- else -%}{{ column.quoted }}
        {%- endif -%}
        {{ "" if loop.last else ", " }}
    {%- endfor -%}
{%- endmacro %}

{% macro nullcheck_table(relation) -%}
    select {{ nullcheck(adapter.get_columns_in_relation(relation)) }} from {{ relation }}
{%- endmacro %}

{# Great-circle distance of two points in degrees. #}
{% macro haversine_distance(lat1, lon1, lat2, lon2, unit='mi') -%}
    {%- if unit not in ['mi', 'km'] -%}
        {{ exceptions.raise_compiler_error("unit of haversine_distance is neither mi nor km, unit=`" ~ unit ~ "`") }}
    {%- endif -%}
    2 * 3961 * asin(least(1.0, sqrt(
        power(sin((radians({{ lat2 }}) - radians({{ lat1 }})) / 2), 2)
        + cos(radians({{ lat1 }})) * cos(radians({{ lat2 }}))
        * power(sin((radians({{ lon2 }}) - radians({{ lon1 }})) / 2), 2)
    ))){{ " * 1.60934" if unit == 'km' else "" }}
{%- endmacro %}

{# Buckets 1 to `num_buckets` of equal width; 0 below, one more at the end and above. #}
{% macro width_bucket(expr, min_value, max_value, num_buckets) -%}
    case
        when {{ expr }} is null then null
        when {{ expr }} < {{ min_value }} then 0
        when {{ expr }} >= {{ max_value }} then {{ num_buckets }} + 1
        else cast(floor(({{ expr }} - {{ min_value }}) * {{ num_buckets }} / cast(({{ max_value }}) - ({{ min_value }}) as double)) as bigint) + 1
    end
{%- endmacro %}

{% macro get_url_parameter(field, url_parameter) -%}
    nullif(split_part(split_part({{ field }}, '{{ url_parameter }}=', 2), '&', 1), '')
{%- endmacro %}

{% macro get_url_host(field) -%}
    split_part(split_part(replace(replace(replace({{ field }}, 'android-app://', ''), 'http://', ''), 'https://', ''), '/', 1), '?', 1)
{%- endmacro %}

{% macro get_url_path(field) -%}
    split_part(
        substr(
            replace(replace({{ field }}, 'http://', ''), 'https://', ''),
            case when strpos(replace(replace({{ field }}, 'http://', ''), 'https://', ''), '/') = 0
                then length(replace(replace({{ field }}, 'http://', ''), 'https://', '')) + 1
                else strpos(replace(replace({{ field }}, 'http://', ''), 'https://', ''), '/') + 1 end
        ), '?', 1)
{%- endmacro %}

{% macro slugify(string) -%}
    {%- set text = modules.re.sub('[ -]+', '_', string | lower) -%}
    {%- set text = modules.re.sub('[^a-z0-9_]+', '', text) -%}
    {{ return(modules.re.sub('^([0-9])', '_\\1', text)) }}
{%- endmacro %}

{% macro pretty_time(format='%H:%M:%S') -%}
    {{ return(modules.datetime.datetime.now().strftime(format)) }}
{%- endmacro %}

{% macro pretty_log_format(message) -%}
    {{ return(pretty_time() ~ ' + ' ~ message) }}
{%- endmacro %}

{% macro log_info(message) -%}
    {{ log(pretty_log_format(message), info=true) }}
{%- endmacro %}
