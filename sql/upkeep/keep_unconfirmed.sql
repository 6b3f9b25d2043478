-- Lists what WeChat did not confirm, some hours of history at a time. Answers whether it has come as far as it may.
select wxnotify_keep_unconfirmed()
