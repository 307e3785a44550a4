{# Time. Instants are timestamps in UTC; windows are half-open, [start, end), and aligned to the Unix epoch. #}

{# Start of the tumbling window of `seconds` that holds an instant.
   tumble_start('event_at', 10) of 12:00:09.9 is 12:00:00. #}
{% macro tumble_start(expression, seconds) -%}
    date_bin(interval '{{ seconds }} seconds', {{ expression }}, to_timestamp_micros(0))
{%- endmacro %}

{# End of that window: the first instant after it. #}
{% macro tumble_end(expression, seconds) -%}
    ({{ tumble_start(expression, seconds) }} + interval '{{ seconds }} seconds')
{%- endmacro %}

{# Starts of all hopping windows of `size` seconds, one every `slide` seconds, that hold an instant: a list to unnest,
   earliest first. `size` must be a multiple of `slide`, so an instant lies in exactly size / slide windows.
   select unnest({{ hop_starts('event_at', 60, 10) }}) as window_start #}
{% macro hop_starts(expression, size, slide) -%}
    {%- if size % slide != 0 -%}
        {{ exceptions.raise_compiler_error("hop_starts: size must be a multiple of slide, size=`" ~ size ~ "`, slide=`" ~ slide ~ "`") }}
    {%- endif -%}
    make_array(
    {%- for step in range(size // slide - 1, -1, -1) -%}
        {{ tumble_start(expression, slide) }} - interval '{{ step * slide }} seconds'{{ "" if loop.last else ", " }}
    {%- endfor -%}
    )
{%- endmacro %}

{# Microseconds since the Unix epoch, whatever the unit of the timestamp. #}
{% macro epoch_micros(expression) -%}
    cast(arrow_cast({{ expression }}, 'Timestamp(Microsecond, Some("UTC"))') as bigint)
{%- endmacro %}

{# Whole seconds between two instants, rounded towards zero; negative when the second lies before the first. #}
{% macro seconds_between(first, second) -%}
    (({{ epoch_micros(second) }} - {{ epoch_micros(first) }}) / 1000000)
{%- endmacro %}

{# The rows of a relation with `session_start`: the instant that begins the session which a row lies in. A session is a run of
   rows of one key (`keys`: a column or a list of them) with at most `gap` seconds between one row and the next.
   select user_id, session_start, count(*) from {{ session_windows(ref('events'), 'user_id', 'event_at', 1800) }} as events
   group by user_id, session_start #}
{% macro session_windows(relation, keys, at, gap) -%}
    {%- set keys = keys if keys is string else keys | join(", ") -%}
    (
        select *, max(session_begins_at) over (partition by {{ keys }} order by {{ at }}) as session_start
        from (
            select *, case when {{ at }} - lag({{ at }}) over (partition by {{ keys }} order by {{ at }}) <= interval '{{ gap }} seconds'
                then null else {{ at }} end as session_begins_at
            from {{ relation }}
        ) as begun
    )
{%- endmacro %}
