-- What a role or database may have set otherwise, and the texts depend on. New objects go to the first schema of the search_path, and
-- nothing is looked for in another.
set standard_conforming_strings = on;
set backslash_quote = safe_encoding;
set client_encoding = 'UTF8';
set check_function_bodies = off;
set row_security = on;
set statement_timeout = 0;
set idle_in_transaction_session_timeout = 0;
set client_min_messages = warning;
set default_tablespace = '';
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', false) where current_schema() is not null;
