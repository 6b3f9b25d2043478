-- Which settings put statements or their parameters into the server's log, as they are for this user; others may have their own.
select current_setting('log_statement') as log_statement, current_setting('log_min_error_statement') as log_min_error_statement,
       current_setting('log_min_duration_statement') as log_min_duration_statement,
       current_setting('log_min_duration_sample') as log_min_duration_sample,
       current_setting('log_transaction_sample_rate')::float8 as log_transaction_sample_rate,
       coalesce(current_setting('auto_explain.log_min_duration', true), '-1') as auto_explain,
       current_setting('log_parameter_max_length') as log_parameter_max_length,
       current_setting('log_parameter_max_length_on_error') as log_parameter_max_length_on_error,
       current_setting('log_error_verbosity') as log_error_verbosity
