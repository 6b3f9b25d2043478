-- Claims rows whose check is to be asked now, by check and mini-program.
select check_name, function_name, fault, appid, ids, refs from wxnotify_claim_checks($1)
