-- Calendars of workdays that end soon, or have ended: a day beyond goes by its weekday.
select d.calendar, max(d.day) as last_day from reminder_days d
group by d.calendar
having max(d.day) < current_date + 60
order by 1
