-- A row with a time beyond all times could not be looked at by anybody: one such row stopped every worker. Rows that are there are
-- looked at afterwards (0003), without a lock that producers would wait for.
alter table pending_notifications
    add constraint due_is_a_time check (due > '-infinity') not valid;

-- Seen in practice; WeChat documents no meaning. Its neighbours are about third-party platforms and their rights.
insert into wechat_errcodes (errcode, disposition, pause_secs, meaning_zh, meaning_en, advice, source) values
(61024, 'pause_app', 300, '第三方平台调用受限（微信未公布含义）', 'a third-party platform''s call was refused (WeChat documents no meaning)', 'Check that the account''s authorisation of the third-party platform stands; it is tried again every 5 minutes.', 'seen in practice')
on conflict (errcode) do nothing;
