{# Dates of dbt_date, on our dialect. `tz` is a zone's name, the variable `dbt_date:time_zone` unless given; weeks begin on
   Sunday, those with `iso` in their name on Monday. #}

{% macro convert_timezone(column, target_tz=none, source_tz=none) -%}
    {%- set zone = target_tz or var('dbt_date:time_zone', 'UTC') -%}
    {%- if source_tz and source_tz != 'UTC' -%}
    local_ts(local_to_utc({{ column }}, '{{ source_tz }}'), '{{ zone }}')
    {%- else -%}
    local_ts({{ column }}, '{{ zone }}')
    {%- endif -%}
{%- endmacro %}

{% macro now(tz=none) -%}
    {{ dbt_date.convert_timezone(dbt.current_timestamp(), tz) }}
{%- endmacro %}

{% macro today(tz=none) -%}
    cast({{ dbt_date.now(tz) }} as date)
{%- endmacro %}

{% macro yesterday(date=none, tz=none) -%}
    {{ dbt_date.n_days_ago(1, date, tz) }}
{%- endmacro %}

{% macro tomorrow(date=none, tz=none) -%}
    {{ dbt_date.n_days_away(1, date, tz) }}
{%- endmacro %}

{% macro n_days_ago(n, date=none, tz=none) -%}
    {{ dbt_date.n_days_away(-1 * (n | int), date, tz) }}
{%- endmacro %}

{% macro n_days_away(n, date=none, tz=none) -%}
    cast({{ dbt.dateadd('day', n | int, date or dbt_date.today(tz)) }} as date)
{%- endmacro %}

{% macro n_weeks_ago(n, tz=none) -%}
    {{ dbt_date.n_weeks_away(-1 * (n | int), tz) }}
{%- endmacro %}

{% macro n_weeks_away(n, tz=none) -%}
    cast({{ dbt.dateadd('week', n | int, dbt.date_trunc('week', dbt_date.today(tz))) }} as date)
{%- endmacro %}

{% macro last_week(tz=none) -%}{{ dbt_date.n_weeks_ago(1, tz) }}{%- endmacro %}

{% macro next_week(tz=none) -%}{{ dbt_date.n_weeks_away(1, tz) }}{%- endmacro %}

{% macro n_months_ago(n, tz=none) -%}
    {{ dbt_date.n_months_away(-1 * (n | int), tz) }}
{%- endmacro %}

{% macro n_months_away(n, tz=none) -%}
    cast({{ dbt.dateadd('month', n | int, dbt.date_trunc('month', dbt_date.today(tz))) }} as date)
{%- endmacro %}

{% macro last_month(tz=none) -%}{{ dbt_date.n_months_ago(1, tz) }}{%- endmacro %}

{% macro next_month(tz=none) -%}{{ dbt_date.n_months_away(1, tz) }}{%- endmacro %}

{% macro last_month_number(tz=none) -%}{{ dbt_date.date_part('month', dbt_date.last_month(tz)) }}{%- endmacro %}

{% macro next_month_number(tz=none) -%}{{ dbt_date.date_part('month', dbt_date.next_month(tz)) }}{%- endmacro %}

{% macro last_month_name(short=true, tz=none) -%}{{ dbt_date.month_name(dbt_date.last_month(tz), short) }}{%- endmacro %}

{% macro next_month_name(short=true, tz=none) -%}{{ dbt_date.month_name(dbt_date.next_month(tz), short) }}{%- endmacro %}

{% macro periods_since(date_col, period_name='day', tz=none) -%}
    {{ dbt.datediff(date_col, dbt_date.now(tz), period_name) }}
{%- endmacro %}

{# To the nearest day. #}
{% macro round_timestamp(timestamp) -%}
    {{ dbt.date_trunc('day', dbt.dateadd('hour', 12, timestamp)) }}
{%- endmacro %}

{% macro date_part(datepart, date) -%}
    cast(date_part('{{ {'dayofweek': 'dow', 'day_of_week': 'dow', 'dayofyear': 'doy', 'isoweek': 'week'}.get(datepart, datepart) }}', {{ date }}) as bigint)
{%- endmacro %}

{# Monday is 1; with `isoweek=false` Sunday is. #}
{% macro day_of_week(date, isoweek=true) -%}
    {{ dbt_date.date_part('isodow', date) if isoweek else "(" ~ dbt_date.date_part('dow', date) ~ " + 1)" }}
{%- endmacro %}

{% macro day_of_month(date) -%}{{ dbt_date.date_part('day', date) }}{%- endmacro %}

{% macro day_of_year(date) -%}{{ dbt_date.date_part('doy', date) }}{%- endmacro %}

{% macro day_name(date, short=true) -%}to_char({{ date }}, '{{ '%a' if short else '%A' }}'){%- endmacro %}

{% macro month_name(date, short=true) -%}to_char({{ date }}, '{{ '%b' if short else '%B' }}'){%- endmacro %}

{% macro week_start(date=none, tz=none) -%}
    cast({{ dbt.dateadd('day', -1, dbt.date_trunc('week', dbt.dateadd('day', 1, date or dbt_date.today(tz)))) }} as date)
{%- endmacro %}

{% macro week_end(date=none, tz=none) -%}
    {{ dbt_date.n_days_away(6, dbt_date.week_start(date, tz)) }}
{%- endmacro %}

{# Week 1 begins with the year's first day. #}
{% macro week_of_year(date=none, tz=none) -%}
    (({{ dbt_date.date_part('doy', date or dbt_date.today(tz)) }} - 1) / 7 + 1)
{%- endmacro %}

{% macro iso_week_start(date=none, tz=none) -%}
    cast({{ dbt.date_trunc('week', date or dbt_date.today(tz)) }} as date)
{%- endmacro %}

{% macro iso_week_end(date=none, tz=none) -%}
    {{ dbt_date.n_days_away(6, dbt_date.iso_week_start(date, tz)) }}
{%- endmacro %}

{% macro iso_week_of_year(date=none, tz=none) -%}
    {{ dbt_date.date_part('week', date or dbt_date.today(tz)) }}
{%- endmacro %}

{% macro to_unixtimestamp(timestamp) -%}
    cast(floor(date_part('epoch', {{ timestamp }})) as bigint)
{%- endmacro %}

{% macro from_unixtimestamp(epochs, format='seconds') -%}
    {%- set functions = {
        'seconds': 'to_timestamp_seconds', 'milliseconds': 'to_timestamp_millis',
        'microseconds': 'to_timestamp_micros', 'nanoseconds': 'to_timestamp_nanos'} -%}
    {%- if format not in functions -%}
    {{ exceptions.raise_compiler_error("format is none of " ~ functions.keys() | join(", ") ~ ", format=`" ~ format ~ "`") }}
    {%- endif -%}
    {{ functions[format] }}({{ epochs }})
{%- endmacro %}

{% macro generate_series(upper_bound) -%}
    {{ dbt_utils.generate_series(upper_bound) }}
{%- endmacro %}

{% macro date_spine(datepart, start_date, end_date) -%}
    {{ dbt_utils.date_spine(datepart, start_date, end_date) }}
{%- endmacro %}

{# One row per `datepart`: from `start_date` on, `end_date` excluded, or the last `n_dateparts` up to today. #}
{% macro get_base_dates(start_date=none, end_date=none, n_dateparts=none, datepart='day') -%}
    {%- if start_date and end_date -%}
        {%- set first, last = "'" ~ start_date ~ "'", "'" ~ end_date ~ "'" -%}
    {%- elif n_dateparts -%}
        {%- set first, last = dbt.dateadd(datepart, -1 * n_dateparts, dbt_date.today()), dbt_date.tomorrow() -%}
    {%- else -%}
        {{ exceptions.raise_compiler_error("dates need `start_date` and `end_date`, or `n_dateparts`") }}
    {%- endif -%}
    {{ dbt_utils.date_spine(datepart, first, last) }}
{%- endmacro %}

{# One row per day with its names, numbers and periods. #}
{% macro get_date_dimension(start_date, end_date) -%}
    {%- set day, year_ago, weeks_ago = 'date_day', 'prior_year_date_day', 'prior_year_over_year_date_day' -%}
    with days as (
        select cast(date_day as date) as date_day from ({{ dbt_date.get_base_dates(start_date, end_date) }}) as dates
    ),
    compared as (
        select
            date_day,
            cast({{ dbt.dateadd('year', -1, day) }} as date) as prior_year_date_day,
            cast({{ dbt.dateadd('day', -364, day) }} as date) as prior_year_over_year_date_day
        from days
    )
    select
        date_day,
        {{ dbt_date.yesterday(day) }} as prior_date_day,
        {{ dbt_date.tomorrow(day) }} as next_date_day,
        prior_year_date_day,
        prior_year_over_year_date_day,
        {{ dbt_date.day_of_week(day, isoweek=false) }} as day_of_week,
        {{ dbt_date.day_of_week(day) }} as day_of_week_iso,
        {{ dbt_date.day_name(day, short=false) }} as day_of_week_name,
        {{ dbt_date.day_name(day) }} as day_of_week_name_short,
        {{ dbt_date.day_of_month(day) }} as day_of_month,
        {{ dbt_date.day_of_year(day) }} as day_of_year,
    {%- for kind in ['', 'iso_'] %}
        {{ dbt_date[kind ~ 'week_start'](day) }} as {{ kind }}week_start_date,
        {{ dbt_date[kind ~ 'week_end'](day) }} as {{ kind }}week_end_date,
        {{ dbt_date[kind ~ 'week_start'](weeks_ago) }} as prior_year_{{ kind }}week_start_date,
        {{ dbt_date[kind ~ 'week_end'](weeks_ago) }} as prior_year_{{ kind }}week_end_date,
        {{ dbt_date[kind ~ 'week_of_year'](day) }} as {{ kind }}week_of_year,
        {{ dbt_date[kind ~ 'week_of_year'](weeks_ago) }} as prior_year_{{ kind }}week_of_year,
    {%- endfor %}
        {{ dbt_date.date_part('month', day) }} as month_of_year,
        {{ dbt_date.month_name(day, short=false) }} as month_name,
        {{ dbt_date.month_name(day) }} as month_name_short,
        cast({{ dbt.date_trunc('month', day) }} as date) as month_start_date,
        {{ dbt.last_day(day, 'month') }} as month_end_date,
        cast({{ dbt.date_trunc('month', year_ago) }} as date) as prior_year_month_start_date,
        {{ dbt.last_day(year_ago, 'month') }} as prior_year_month_end_date,
        {{ dbt_date.date_part('quarter', day) }} as quarter_of_year,
        cast({{ dbt.date_trunc('quarter', day) }} as date) as quarter_start_date,
        {{ dbt.last_day(day, 'quarter') }} as quarter_end_date,
        {{ dbt_date.date_part('year', day) }} as year_number,
        cast({{ dbt.date_trunc('year', day) }} as date) as year_start_date,
        {{ dbt.last_day(day, 'year') }} as year_end_date
    from compared
{%- endmacro %}
