{# Motion classes. Magnitudes are m/s², gravity left out; each bound belongs to the class above it. #}

{# Class of a magnitude, single or mean, unrounded. #}
{% macro activity_class(magnitude) -%}
    case
        when {{ magnitude }} < {{ var('activity_walking_from') }}
            then 'Stationary'
        when {{ magnitude }} < {{ var('activity_running_from') }}
            then 'Walking'
        when {{ magnitude }} < {{ var('activity_sprinting_from') }}
            then 'Running'
        else 'Sprinting'
    end
{%- endmacro %}

{# Panes that a window is made of. #}
{% macro activity_panes_per_window() -%}
    {%- set size, slide = var('activity_window_s'), var('activity_slide_s') -%}
    {%- if size % slide != 0 -%}
        {{ exceptions.raise_compiler_error("activity_window_s must be a multiple of activity_slide_s, activity_window_s=`" ~ size ~ "`, activity_slide_s=`" ~ slide ~ "`") }}
    {%- endif -%}
    {{ size // slide }}
{%- endmacro %}
