{# What a feed shows of an entry: the columns of its document in the index of feeds. #}
{% macro entry_document(entries, author='author_id') -%}
    {{ entries }}.{{ author }} as author_id,
    {{ entries }}.sleep_entry_id,
    {{ entries }}.sleep_duration,
    {{ entries }}.sleep_start_at,
    {{ entries }}.created_at,
    {{ entries }}.updated_at
{%- endmacro %}
