{# A text that may name a person, by mode: `plain` as it is, `hash` its keyed SHA-256 as 64 hexadecimal digits (equal texts stay
   equal), `drop` the word `dropped`. `unknown` stays, for there is nobody to protect. The key is part of the compiled SQL: keep
   the target folder as private as the key. #}
{% macro private_text(expression, mode, key) -%}
    {%- if mode == 'plain' -%}
        {{ expression }}
    {%- elif mode == 'drop' -%}
        case when {{ expression }} = 'unknown' then 'unknown' else 'dropped' end
    {%- elif mode != 'hash' -%}
        {{ exceptions.raise_compiler_error("mode is not one of plain, hash, drop: " ~ mode) }}
    {%- elif not key -%}
        {{ exceptions.raise_compiler_error("a hash needs a key: set the variable from the environment or a file that is not under version control") }}
    {%- else -%}
        case
            when {{ expression }} = 'unknown' then 'unknown'
            else sha256_hex(concat('{{ key }}', sha256_hex(concat('{{ key }}', {{ expression }}))))
        end
    {%- endif -%}
{%- endmacro %}
