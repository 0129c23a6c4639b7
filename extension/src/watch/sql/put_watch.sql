insert into webhook.watch as w
    (relation, noun, verbs, columns, exclude, on_columns, condition, payload, key_columns, numbered_for,
     owner_column, owner_function, owner_setting)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
on conflict (relation) do update set
    noun = excluded.noun, verbs = excluded.verbs, columns = excluded.columns,
    exclude = excluded.exclude, on_columns = excluded.on_columns,
    condition = excluded.condition, payload = excluded.payload, key_columns = excluded.key_columns,
    numbered_for = excluded.numbered_for, owner_column = excluded.owner_column,
    owner_function = excluded.owner_function, owner_setting = excluded.owner_setting
returning w
